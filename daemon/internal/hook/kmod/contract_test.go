// SPDX-License-Identifier: Apache-2.0

//go:build vmguest

package kmod

import (
	"testing"

	"github.com/nsqueue/nsqueue/daemon/internal/hook/hooktest"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// TestContract runs where the module can be loaded, see test/vm.
func TestContract(t *testing.T) {
	if err := Load(""); err != nil {
		t.Fatal(err)
	}
	h, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Log(h.Describe())
	hooktest.Run(t, h)
}
