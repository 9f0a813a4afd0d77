// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"context"
	"sync"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// keyLocks are locks of keys, one for each key that a call is about at the
// moment. The zero value has none.
type keyLocks struct {
	mu    sync.Mutex
	locks map[api.Key]*keyLock
}

// keyLock is the lock of one key. Its holder has put an element into held.
type keyLock struct {
	held  chan struct{}
	users int // the holder, and the calls that wait; guarded by keyLocks.mu
}

// acquire waits until no other call holds the key.
func (k *keyLocks) acquire(ctx context.Context, key api.Key) (release func(), err error) {
	l := k.addUser(key)
	select {
	case l.held <- struct{}{}:
		return func() {
			<-l.held
			k.removeUser(key, l)
		}, nil
	case <-ctx.Done():
		k.removeUser(key, l)
		return nil, api.Errorf(api.CodeTryAgainLater,
			"another call about %s is still in progress", key)
	}
}

// addUser returns the lock of a key, which stays the key's until removeUser.
func (k *keyLocks) addUser(key api.Key) *keyLock {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.locks[key]
	if l == nil {
		if k.locks == nil {
			k.locks = make(map[api.Key]*keyLock)
		}
		l = &keyLock{held: make(chan struct{}, 1)}
		k.locks[key] = l
	}
	l.users++
	return l
}

func (k *keyLocks) removeUser(key api.Key, l *keyLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(k.locks, key)
	}
}
