// SPDX-License-Identifier: Apache-2.0

package nft_test

import (
	"testing"

	"github.com/nsqueue/nsqueue/daemon/internal/hook/hooktest"
	"github.com/nsqueue/nsqueue/daemon/internal/hook/nft"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func TestContract(t *testing.T) {
	h, err := nft.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Log(h.Describe())
	hooktest.Run(t, h)
}
