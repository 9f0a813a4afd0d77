// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/place"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
	"github.com/nsqueue/nsqueue/daemon/rules"
)

// Check says whether [Run] could serve here with this configuration and inspector. It
// changes nothing, and may be called while a daemon runs: it makes no socket that others
// see, writes no file, loads no module, and touches no netns but one of its own, which
// ends with the check.
func Check(c *Config, inspector inspect.Inspector) *Report {
	k := &checker{Report: NewReport(), config: c, inspector: inspector}
	k.configuration()
	if k.Wrong() > 0 { // the rest would be about a configuration that nobody meant
		return k.Report
	}
	k.place = lookAround(c)
	k.rules()
	k.state()
	k.capabilities()
	k.container()
	k.kernel()
	return k.Report
}

// lookAround finds out where this process runs.
func lookAround(c *Config) api.Place {
	return place.Look(place.Options{Getenv: os.Getenv, NetnsDirs: c.Adopt.NetnsDirs})
}

// checker is one check.
type checker struct {
	*Report
	config    *Config
	inspector inspect.Inspector
	outside   *outside // nil: no inspectors outside
	place     api.Place
}

func (k *checker) configuration() {
	c := k.config
	k.RefuseConfiguration("", c.Validate())
	if _, err := c.Observe.group(); err != nil {
		k.add(api.FindingWrong, checkConfiguration, "observe.group", err.Error(),
			"Name a group of this system, or give its number.")
	}
	for field, path := range map[string]string{
		"socket": filepath.Dir(c.Socket), "stateDir": c.StateDir,
	} {
		k.directory(field, path)
	}
	k.socket()
	if _, none := k.inspector.(inspect.AcceptAll); c.Rules.On() && !none {
		k.add(api.FindingWrong, checkConfiguration, "rules.directory", "this program has an "+
			"inspector of its own", "Leave the key out, or use nsqueued itself.")
	}
	if k.Wrong() == 0 {
		k.inspectors()
	}
	if k.Wrong() == 0 {
		k.ok(checkConfiguration, "", "valid")
	}
}

// inspectors finds what a daemon would end with.
func (k *checker) inspectors() {
	var err error
	if k.outside, err = newOutside(k.config, k.inspector); err != nil {
		k.add(api.FindingWrong, checkConfiguration, "inspectors", err.Error(),
			"Name users, groups and programs that this system has.")
	}
}

// directory refuses what is there and no directory. What is missing is made later.
func (k *checker) directory(field, path string) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		k.add(api.FindingWrong, checkConfiguration, field, err.Error(),
			"Let nsqueued use that directory, or name another one.")
	case !info.IsDir():
		k.add(api.FindingWrong, checkConfiguration, field, path+" is not a directory",
			"Remove the file, or name another directory.")
	}
}

// socket refuses a path at which there is a file of another kind. A socket there is that
// of a daemon, which may run.
func (k *checker) socket() {
	info, err := os.Lstat(k.config.Socket)
	if err == nil && info.Mode().Type() != fs.ModeSocket {
		k.add(api.FindingWrong, checkConfiguration, "socket",
			k.config.Socket+" is there, and not a socket", "Remove the file, or name another path.")
	}
}

func (k *checker) rules() {
	dirs := k.config.Rules.all()
	if len(dirs) == 0 || !k.ruleDirectories(dirs) {
		return
	}
	r, err := (&rules.Loader{
		Read: os.ReadFile, Labels: k.config.knowsLabels(), Inspector: k.outside.check,
	}).Load(nil, dirs...)
	dir := strings.Join(dirs, ", ")
	if err == nil {
		count := 0
		for _, set := range r.Sets() {
			count += len(set.Rules)
		}
		k.ok(checkRules, dir, "sets: %d, rules: %d", len(r.Sets()), count)
		k.eventsFile()
		return
	}
	const remedy = "Mend the file. nsqueuectl rules check does the same check."
	all, ok := errors.AsType[rules.Errors](err)
	if !ok {
		k.add(api.FindingWrong, checkRules, dir, err.Error(), remedy)
	}
	for _, e := range all {
		where := fmt.Sprintf("%s:%d:%d", e.File, e.Line, e.Column)
		k.add(api.FindingWrong, checkRules, where, e.Text, remedy)
	}
}

// ruleDirectories reports whether all are there.
func (k *checker) ruleDirectories(dirs []string) bool {
	ok := true
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			err = errors.New("not a directory")
		}
		if err != nil {
			ok = false
			k.add(api.FindingWrong, checkRules, dir, err.Error(),
				"Make the directory, or leave it out of rules.directory and rules.directories.")
		}
	}
	return ok
}

// eventsFile looks for the directory of the file of events, which nobody makes.
func (k *checker) eventsFile() {
	file := k.config.Rules.Events.File
	if file == "" {
		return
	}
	info, err := os.Stat(filepath.Dir(file))
	if err == nil && !info.IsDir() {
		err = errors.New("its directory is none")
	}
	if err != nil {
		k.add(api.FindingWrong, checkRules, file, "events cannot be written: "+err.Error(),
			"Make the directory, or change rules.events.file.")
	}
}

func (k *checker) state() {
	dir := k.config.StateDir
	n, damaged, err := state.Inspect(dir)
	switch {
	case errors.Is(err, state.ErrNewer):
		k.add(api.FindingWrong, checkState, dir, err.Error(),
			"Run the version that wrote it, or a newer one. To go back, drain the node, stop "+
				"nsqueued, and remove the directory.")
		return
	case err != nil:
		k.add(api.FindingWrong, checkState, dir, "cannot be read: "+err.Error(),
			"Run nsqueued as root, with the node's directory.")
		return
	}
	for _, err := range damaged {
		k.add(api.FindingWarning, checkState, dir, err.Error(),
			"nsqueued will put the file aside, and not restore that pod: adopt it "+
				"(nsqueuectl adopt).")
	}
	k.ok(checkState, dir, "attachments to restore: %d", n)
}

func (k *checker) capabilities() {
	for _, c := range k.place.Missing {
		result := api.FindingWarning
		if c.Required || c.Name == "CAP_CHOWN" && k.config.Observe.Group != "" {
			result = api.FindingWrong
		}
		k.add(result, checkCapabilities, "", c.Name+" is missing, which is for "+c.For,
			"Add it: capabilities.add of the container, or CapabilityBoundingSet= of the unit.")
	}
	if len(k.place.Missing) == 0 {
		k.ok(checkCapabilities, "", "all that nsqueued makes use of")
	}
}

// container says what the container hides. nsqueued inspects all the same, so that
// nothing here is wrong: docs/install.md says what is lost.
func (k *checker) container() {
	p := &k.place
	before := len(k.Findings)
	if p.PIDNamespace == api.OfItsOwn {
		k.add(api.FindingWarning, checkContainer, "", "a PID namespace of its own hides the "+
			"processes of pods: calls to detach that are lost stay lost", "Set hostPID: true.")
	}
	if p.UserNamespace == api.OfItsOwn {
		k.add(api.FindingWarning, checkContainer, "", "a user namespace of its own: netns "+
			"that are the node's cannot be entered", "Set hostUsers: true.")
	}
	if p.AppArmor != "" {
		k.add(api.FindingWarning, checkContainer, "", "the AppArmor profile "+p.AppArmor+
			" may keep nsqueued from looking at processes", "Set appArmorProfile: Unconfined.")
	}
	for _, d := range p.NetnsDirs {
		if d.Follows == api.OfItsOwn {
			k.add(api.FindingWarning, checkContainer, d.Path, "mount propagation is missing: "+
				"netns that the runtime mounts there later do not appear, so that a pod may not "+
				"be found after a restart",
				"Give this mount of the container mountPropagation: HostToContainer.")
		}
	}
	if len(k.Findings) == before {
		k.ok(checkContainer, "", "nothing is known to be hidden")
	}
}
