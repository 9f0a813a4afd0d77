// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// The shared memory has a chunk for each batch. Where none is free, packets come in
// messages.
const (
	chunkSize  = 128 << 10
	chunks     = 128
	memorySize = chunks * chunkSize
)

// memory is shared with the inspector, which can only read it, and cannot change its size.
type memory struct {
	file   *os.File
	bytes  []byte
	unused []int
}

func newMemory() (*memory, error) {
	fd, err := unix.MemfdCreate("nsqueue-inspector", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	m := &memory{file: os.NewFile(uintptr(fd), "memfd")}
	if err := m.prepare(fd); err != nil {
		return nil, errors.Join(err, m.file.Close())
	}
	for i := range chunks {
		m.unused = append(m.unused, chunks-1-i)
	}
	return m, nil
}

func (m *memory) prepare(fd int) error {
	if err := unix.Ftruncate(fd, memorySize); err != nil {
		return os.NewSyscallError("ftruncate", err)
	}
	var err error
	m.bytes, err = unix.Mmap(fd, 0, memorySize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	// The mapping that is there stays writable; nobody else gets one.
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS,
		unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_FUTURE_WRITE|unix.F_SEAL_SEAL)
	if err != nil {
		return errors.Join(os.NewSyscallError("fcntl F_ADD_SEALS", err), unix.Munmap(m.bytes))
	}
	return nil
}

// take returns a chunk, and −1 if none is free.
func (m *memory) take() (chunk int, room []byte, offset uint32) {
	n := len(m.unused)
	if n == 0 {
		return -1, nil, 0
	}
	chunk = m.unused[n-1]
	m.unused = m.unused[:n-1]
	at := chunk * chunkSize
	return chunk, m.bytes[at : at+chunkSize : at+chunkSize], uint32(at)
}

// give takes a chunk back that the inspector needs no more.
func (m *memory) give(chunk int) { m.unused = append(m.unused, chunk) }

func (m *memory) close() {
	_ = unix.Munmap(m.bytes)
	_ = m.file.Close()
	m.bytes, m.unused = nil, nil
}
