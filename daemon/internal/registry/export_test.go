// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/datapath"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/internal/boottime"
)

// EmptyTime is how old an attachment must be before an empty netns counts.
const EmptyTime = emptyTime

// DrainLimit is how long detaching waits for verdicts.
const DrainLimit = datapath.DrainLimit

// Always is later than every call.
const Always = always

func (r *Registry) container(id string) *attachment {
	return r.named(api.Key{ContainerID: id, Ifname: "eth0"})
}

// SetAge makes an attachment older by d, for d < 0.
func (r *Registry) SetAge(id string, d time.Duration) {
	a := r.container(id)
	r.mu.Lock()
	defer r.mu.Unlock()
	a.record.Called = boottime.Now() + d
}

// TakeForL3S has interfaces of a name taken for an ipvlan in mode l3s.
func (r *Registry) TakeForL3S(ifname string) {
	r.elsewhere = func(_ *netns.NetNS, name string) (bool, error) { return name == ifname, nil }
}
