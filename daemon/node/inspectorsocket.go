// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nsqueue/nsqueue/daemon/internal/external/server"
)

// maxSocketPath is what the kernel takes as the path of a unix socket.
const maxSocketPath = 107

// validateSocket looks at what is of inspectors on sockets alone.
func (c *InspectorConfig) validateSocket(field string) error {
	if c.Socket == "" {
		return at(field, errors.New("want a socket"))
	}
	var errs []error
	if !filepath.IsAbs(c.Socket) || len(c.Socket) > maxSocketPath {
		errs = append(errs, at(field+".socket", fmt.Errorf(
			"%q: want an absolute path of at most %d bytes", c.Socket, maxSocketPath)))
	}
	errs = append(errs, at(field+".transport",
		oneOf(c.Transport, TransportMessages, TransportMemfd, TransportDescriptor)),
		c.validateDescriptor(field),
		at(field+".user", validateOwner(c.User)), at(field+".group", validateOwner(c.Group)))
	return errors.Join(errs...)
}

func validateOwner(name string) error {
	if strings.ContainsAny(name, ":\n\x00") {
		return fmt.Errorf("%q: want a name or a number", name)
	}
	return nil
}

// server returns what serves an inspector on a socket.
func (c *InspectorConfig) server(of *Config) (*server.Server, error) {
	uid, err := userID(c.User)
	if err != nil {
		return nil, fmt.Errorf("user: %w", err)
	}
	gid, err := groupID(c.Group)
	if err != nil {
		return nil, fmt.Errorf("group: %w", err)
	}
	failures := map[OnFailure]server.Failure{
		OnFailurePolicy: server.ByPolicy, OnFailureAccept: server.Accept,
		OnFailureDrop: server.Drop, OnFailureRules: server.AsBefore,
	}
	return server.New(server.Config{
		Name: c.Name, Socket: c.Socket, UID: uid, GID: gid,
		Memory: c.Transport == TransportMemfd, Lends: c.Transport == TransportDescriptor,
		Queue: c.Descriptor.queue(), OnFailure: failures[c.OnFailure],
		Failure: string(c.OnFailure), Budget: time.Duration(c.Budget), MarkMask: of.MarkMask,
	}), nil
}

// userID returns the number of a user, -1 for none.
func userID(name string) (int, error) {
	return ownerID(name, func() (string, error) {
		u, err := user.Lookup(name)
		if err != nil {
			return "", err
		}
		return u.Uid, nil
	})
}

// groupID returns the number of a group, -1 for none.
func groupID(name string) (int, error) {
	return ownerID(name, func() (string, error) {
		g, err := user.LookupGroup(name)
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	})
}

func ownerID(name string, look func() (string, error)) (int, error) {
	if name == "" {
		return -1, nil
	}
	if n, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(n), nil
	}
	id, err := look()
	if err != nil {
		return -1, err
	}
	return strconv.Atoi(id)
}
