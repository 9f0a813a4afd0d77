// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/boottime"
	"github.com/nsqueue/nsqueue/internal/conflist"
	"github.com/nsqueue/nsqueue/internal/spool"
)

// chain looks at the configuration that the runtime takes, and for what is left
// of nsqueue in others.
func (e *examination) chain() {
	if _, err := os.ReadDir(e.ConfDir); err != nil {
		e.notChecked(checkChain, e.ConfDir, err)
		return
	}
	s, err := conflist.Look(e.ConfDir)
	if err != nil {
		e.notChecked(checkChain, e.ConfDir, err)
		return
	}
	for _, path := range s.Orphans {
		e.add(Wrong, checkChain, path,
			"nsqueuectl made this list from a .conf file that is gone, or that delegates itself: "+
				"the list must be removed",
			"Run nsqueuectl install, which removes it.")
	}
	e.judgeActive(s)
	if s.Err != nil { // then it is not known what the runtime uses
		return
	}
	for _, path := range s.Elsewhere {
		e.add(Warning, checkChain, path,
			"nsqueue is in this file, which the runtime does not use for pods",
			"Remove nsqueue from it, or the file, unless another program (such as podman) uses it.")
	}
}

func (e *examination) judgeActive(s *conflist.Survey) {
	var unusable *conflist.Unusable
	switch {
	case s.Active == "" && len(s.Orphans) > 0: // said already
	case s.Active == "":
		e.add(Wrong, checkChain, e.ConfDir, "there is no CNI configuration: pods get no network",
			"Install the pod network, or name the runtime's directory with --conf-dir.")
	case errors.Is(s.Err, fs.ErrPermission):
		e.notChecked(checkChain, s.Active, s.Err)
	case errors.As(s.Err, &unusable):
		e.add(Wrong, checkChain, s.Active, unusable.What(), "Fix or remove the file.")
	case s.Err != nil:
		e.add(Wrong, checkChain, s.Active, strings.TrimPrefix(s.Err.Error(), s.Active+": "),
			"Fix this, then run nsqueuectl install.")
	case s.Outdated != "":
		e.add(Wrong, checkChain, s.Active, "nsqueuectl made this list from "+s.Outdated+
			", which has changed since",
			"Run nsqueuectl install; with --watch it follows further changes.")
	default:
		e.judgeChain(s)
	}
}

// judgeChain looks at the chain that pods get. Where no runtime is found, it is
// assumed to read drop-ins, and the finding says so.
func (e *examination) judgeChain(s *conflist.Survey) {
	seen := len(e.Runtimes) > 0
	c := s.Chain(e.DropIns || !seen)
	path, order := s.Active, strings.Join(c.Plugins, ", ")
	if s.OwnDropIn != "" && s.Inline.Entries() == 0 {
		path = s.OwnDropIn
	}
	switch {
	case path == s.OwnDropIn && seen && !e.DropIns:
		e.add(Wrong, checkChain, path, "nsqueue is in a file of its own, which "+
			strings.Join(e.Runtimes, " or ")+" of this node does not read: new pods are not "+
			"inspected ("+conflist.DropInReaders+")", "Run nsqueuectl install --mode append.")
	case !e.judgeOrder(path, &c):
	case path == s.OwnDropIn && !seen:
		e.add(Unknown, checkChain, path, "nsqueue is in a file of its own ("+
			conflist.DropInReaders+"), and no program of a runtime is visible from here",
			"Run nsqueuectl on the node itself, outside of containers, or nsqueuectl install "+
				"--mode append.")
	case s.Via != "":
		e.ok(checkChain, path, "nsqueue is the last plugin (%s delegates to %s)", s.Via, order)
	default:
		e.ok(checkChain, path, "nsqueue is the last plugin (%s)", order)
	}
}

// judgeOrder says what is wrong with the order of the plugins, and returns
// whether nothing is.
func (e *examination) judgeOrder(path string, c *conflist.Chain) bool {
	order := strings.Join(c.Plugins, ", ")
	switch {
	case len(c.Plugins) == 0:
		e.add(Wrong, checkChain, path,
			"the runtime uses this configuration, which is not a list: new pods are not inspected",
			"Run nsqueuectl install, which makes a conflist of it.")
	case c.Entries() == 0:
		e.add(Wrong, checkChain, path,
			"the runtime uses this configuration, and nsqueue is not in it ("+order+
				"): new pods are not inspected",
			"Run nsqueuectl install, or append {\"type\": \"nsqueue\"} to its plugins. If another "+
				"file has the entry, that file must sort first by name.")
	case c.Entries() > 1 || !c.Last():
		e.add(Wrong, checkChain, path,
			"nsqueue must be in the list once, as the last plugin, after another: "+order,
			"Run nsqueuectl install, which moves its entry to the end of the plugins.")
	case c.Socket != e.Socket && api.ObserverSocket(c.Socket) != e.Socket:
		e.add(Warning, checkChain, path,
			fmt.Sprintf("new pods use the nsqueued at %s; this report is about the one at %s",
				c.Socket, e.Socket),
			"Name the socket of the configuration with --socket, or correct the entry.")
	default:
		return true
	}
	return false
}

// protectedPath is a path, and the permissions that only root may have there.
type protectedPath struct {
	path   string
	forbid fs.FileMode
}

// permissions looks at what only root may write to, or enter. Another user could
// redirect the inspection of pods, or end it.
func (e *examination) permissions() {
	const group, others = 0o070, 0o007
	const writers = 0o022
	socket := protectedPath{e.Socket, group | others}
	observers := api.ObserverSocket(e.Socket)
	if e.Socket == observers {
		socket.forbid = others
	}
	paths := []protectedPath{
		socket,
		{observers, others},
		{filepath.Dir(e.Socket), writers},
		{spool.Path(e.Socket), group | others},
	}
	if e.reached {
		paths = append(paths, protectedPath{e.status.StateDir, writers},
			protectedPath{filepath.Join(e.status.StateDir, "attachments"), group | others})
	}
	before := len(e.report.Findings)
	checked := 0
	for _, g := range paths {
		switch info, err := os.Lstat(g.path); {
		case errors.Is(err, fs.ErrNotExist): // not needed so far
		case err != nil:
			e.notChecked(checkPermissions, g.path, err)
		default:
			checked++
			e.judgeMode(g, info)
		}
	}
	if checked > 0 && len(e.report.Findings) == before {
		e.ok(checkPermissions, filepath.Dir(e.Socket),
			"only root can change sockets and state (%d paths)", checked)
	}
}

func (e *examination) judgeMode(g protectedPath, info fs.FileInfo) {
	if excess := info.Mode().Perm() & g.forbid; excess != 0 {
		e.add(Wrong, checkPermissions, g.path,
			fmt.Sprintf("mode %04o gives other users access that only root may have",
				info.Mode().Perm()),
			fmt.Sprintf("chmod %04o %s", info.Mode().Perm()&^g.forbid, g.path))
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && stat.Uid != 0 && stat.Uid != e.peer.uid {
		e.add(Wrong, checkPermissions, g.path,
			fmt.Sprintf("it belongs to user %d", stat.Uid), "chown root "+g.path)
	}
}

// drainTime is how long a call may wait in the spool: it is looked at every 10 s.
const drainTime = 30 * time.Second

// spool looks for calls that nsqueued does not carry out.
func (e *examination) spool() {
	path := spool.Path(e.Socket)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		e.ok(checkSpool, path, "empty")
		return
	}
	calls, err := readSpool(path, e.Now())
	switch {
	case err != nil:
		e.notChecked(checkSpool, path, err)
		return
	case calls.strange > 0:
		e.add(Wrong, checkSpool, path, fmt.Sprintf(
			"this version cannot read %s, such as: %s",
			text.Plural(calls.strange, "file"), calls.why),
			"See the log of nsqueued. Use one version of nsqueue, or remove the files.")
	}
	switch n := text.Plural(calls.waiting, "undelivered CNI call"); {
	case calls.waiting == 0 && calls.strange == 0:
		e.ok(checkSpool, path, "empty")
	case calls.waiting > 0 && calls.oldest < drainTime:
		e.ok(checkSpool, path, "%s, for less than %s", n, drainTime)
	case calls.waiting > 0:
		e.add(Wrong, checkSpool, path, fmt.Sprintf(
			"%s, the oldest for %s", n,
			calls.oldest.Round(time.Second)),
			"Start nsqueued. If it runs, its log says why it does not carry them out.")
	}
}

// spooled are the calls in the spool.
type spooled struct {
	waiting int
	oldest  time.Duration // how long it has been waiting
	strange int           // files that cannot be read as calls
	why     string        // what is wrong with one of them
}

// readSpool reads the spool at a time since boot.
func readSpool(path string, now time.Duration) (spooled, error) {
	bootID, err := boottime.ID()
	if err != nil {
		return spooled{}, err
	}
	dir, err := spool.Open(path)
	if err != nil {
		return spooled{}, err
	}
	defer dir.Close()
	keys, strange, err := dir.List()
	if err != nil {
		return spooled{}, err
	}
	s := spooled{strange: len(strange)}
	if len(strange) > 0 {
		s.why = fmt.Sprintf("%.80q", strange[0])
	}
	for _, key := range keys {
		call, err := dir.Read(key)
		switch {
		case errors.Is(err, fs.ErrNotExist): // carried out meanwhile
		case err != nil:
			s.strange++
			s.why = err.Error()
		case call.BootID != bootID: // from before this boot
			s.add(now)
		default:
			s.add(now - call.Called)
		}
	}
	return s, nil
}

func (s *spooled) add(age time.Duration) {
	s.waiting++
	s.oldest = max(s.oldest, age)
}
