// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// A descriptor that a newer daemon has stored is an error, and what is attached
// stays as it is.
func TestNewerDescriptor(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, peer := nstest.Pair(t)
	d.attach("one", pod, api.Fail)
	path := filepath.Join(d.dir, "attachments", "one@eth0.json")
	before, err := os.ReadFile(path)
	nstest.Must(t, err)
	f, err := os.Open(os.DevNull)
	nstest.Must(t, err)
	defer f.Close()
	_, err = d.Inherit([]fdstore.Descriptor{{Name: "z1i", File: f}}, nil)
	if !errors.Is(err, fdstore.ErrForeignName) {
		t.Errorf("got %v, want ErrForeignName", err)
	}
	if _, err := f.Stat(); err != nil {
		t.Errorf("the descriptor was touched: %v", err)
	}
	after, err := os.ReadFile(path)
	nstest.Must(t, err)
	if string(after) != string(before) {
		t.Errorf("the state file changed from %s to %s", before, after)
	}
	nstest.Must(t, peerAnswers(t, peer, pod))
}
