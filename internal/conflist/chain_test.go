// SPDX-License-Identifier: Apache-2.0

package conflist_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/conflist"
)

func TestParseChain(t *testing.T) {
	for text, want := range map[string]struct {
		chain   conflist.Chain
		entries int
		last    bool
	}{
		`{"name":"n","plugins":[{"type":"flannel"},{"type":"nsqueue","socket":"/s"}]}`: {
			conflist.Chain{Plugins: []string{"flannel", "nsqueue"}, Socket: "/s"}, 1, true,
		},
		`{"name":"n","plugins":[{"type":"nsqueue"},{"type":"flannel"}]}`: {
			conflist.Chain{Plugins: []string{"nsqueue", "flannel"}, Socket: api.DefaultSocket}, 1, false,
		},
		`{"name":"n","plugins":[{"type":"a"},{"type":"nsqueue"},{"type":"nsqueue"}]}`: {
			conflist.Chain{Plugins: []string{"a", "nsqueue", "nsqueue"}, Socket: api.DefaultSocket}, 2, false,
		},
		`{"name":"n","plugins":[{"type":"nsqueue"}]}`: {
			conflist.Chain{Plugins: []string{"nsqueue"}, Socket: api.DefaultSocket}, 1, false,
		},
		`{"name":"n","type":"bridge"}`: {conflist.Chain{Socket: api.DefaultSocket}, 0, false},
	} {
		got, err := conflist.ParseChain([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want.chain, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
		if got.Entries() != want.entries || got.Last() != want.last {
			t.Errorf("%s: %d entries, last %v", text, got.Entries(), got.Last())
		}
	}
	for _, text := range []string{
		``, `[]`, `{"plugins":[]}`, `{"name":"n","plugins":[{"type":"nsqueue","socket":1}]}`,
	} {
		if _, err := conflist.ParseChain([]byte(text)); !errors.Is(err, conflist.ErrInvalid) {
			t.Errorf("%q: %v, want %v", text, err, conflist.ErrInvalid)
		}
	}
}
