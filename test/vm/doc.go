// SPDX-License-Identifier: Apache-2.0

//go:build vm

// Package vm boots the kernels that the module claims to support and runs test
// programs in them as root of a machine of their own:
//
//	go test -count=1 -tags vm -v ./test/vm -run TestKernel
//	go test -count=1 -tags vm -v ./test/vm -run 'TestKernel/6.1$'
//	go test -count=1 -tags vm -v ./test/vm -run 'TestSupported|TestARM64'
//
// (-count=1: what the guests run is no file that go test would miss.)
//
// kernels.go says which kernels there are. NSQUEUE_VM_RUN is the -test.run of the guests'
// programs, NSQUEUE_VM_KEEP a folder that keeps the image and the kernel log,
// NSQUEUE_VM_NETNS how many netns TestManyNetns makes, NSQUEUE_VM_QEMU more arguments of
// QEMU ("-icount shift=0": the guest's clock counts instructions, which makes TestCost
// exact whatever else the machine does). NSQUEUE_VM_TREE is a kernel source tree, as
// debug.sh builds it; then TestTree runs the same programs in that kernel, with ten times
// the time.
package vm
