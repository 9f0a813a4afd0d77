// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/cnipod"
)

// The keys that are the plugin's own.
const (
	keySocket            = cnipod.FieldSocket
	keyFailurePolicy     = cnipod.FieldFailurePolicy
	keyExcludeNamespaces = cnipod.FieldExcludeNamespaces
	keyPodAnnotations    = cnipod.FieldPodAnnotations
	keyPassAnnotations   = cnipod.FieldPassAnnotations
)

// Other keys that have a meaning here.
const (
	keyPrevResult       = "prevResult"
	keyValidAttachments = "cni.dev/valid-attachments"
	keyAttachments      = "cni.dev/attachments" // an older name of the former
	keyAnnotations      = cnipod.AnnotationsCapability
)

// config is the plugin's entry in the list, with what the runtime added.
type config struct {
	cniVersion string
	network    string
	// Its policy is never empty: an entry without one means Ignore. The plugin needs
	// a policy when no daemon answers, so the daemon's default never applies to a pod
	// that was attached by CNI.
	cnipod.Entry
	annotations map[string]string
	prevResult  json.RawMessage
	// valid is what a GC call names; it has no list where isGC is false.
	valid []api.Key
	isGC  bool
}

// decodeObject returns the values of the configuration as they were written.
func decodeObject(data []byte) (map[string]json.RawMessage, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(data, &object); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure,
			"decode network config: "+err.Error(), "")
	}
	if object == nil {
		return nil, types.NewError(types.ErrDecodingFailure,
			"decode network config: want a JSON object, got null", "")
	}
	return object, nil
}

// parseConfig reads the configuration and accepts nothing that it does not
// understand: a misspelt policy must not mean the default.
func parseConfig(data []byte) (*config, error) {
	object, err := decodeObject(data)
	if err != nil {
		return nil, err
	}
	c := &config{Entry: cnipod.DefaultEntry()}
	if err := c.parseHead(object); err != nil {
		return c, err
	}
	if err := refuseUnknown(object); err != nil {
		return c, err
	}
	if err := c.parseOwn(object); err != nil {
		return c, err
	}
	return c, c.parseInjected(object)
}

// parseHead reads what every plugin's configuration has.
func (c *config) parseHead(object map[string]json.RawMessage) error {
	if err := parseField(object, "name", "a string", &c.network); err != nil {
		return err
	}
	if !validName(c.network) {
		return invalidField("name", "want letters, digits, '_', '.' and '-', "+
			"the first a letter or digit, at most %d of them, got %.60q", api.MaxName, c.network)
	}
	cniVersion := "0.1.0" // what the specification says of a config without
	if err := parseField(object, "cniVersion", "a string", &cniVersion); err != nil {
		return err
	}
	var r version.Reconciler
	if err := r.Check(cniVersion, supported()); err != nil {
		return types.NewError(types.ErrIncompatibleCNIVersion,
			fmt.Sprintf("cniVersion %.20q is not supported", cniVersion),
			"want one of "+strings.Join(supported().SupportedVersions(), ", "))
	}
	c.cniVersion = cniVersion
	return parseField(object, "type", "a string", &c.Type)
}

// parseOwn reads the plugin's own fields.
func (c *config) parseOwn(object map[string]json.RawMessage) error {
	for _, field := range []struct {
		key, want string
		into      any
	}{
		{keySocket, "a path", &c.Socket},
		{keyFailurePolicy, `"Ignore" or "Fail"`, &c.FailurePolicy},
		{keyExcludeNamespaces, "a list of namespaces", &c.ExcludeNamespaces},
		{keyPodAnnotations, "a list of annotations", &c.PodAnnotations},
		{keyPassAnnotations, "a list of annotations", &c.PassAnnotations},
	} {
		if err := parseField(object, field.key, field.want, field.into); err != nil {
			return err
		}
	}
	err := c.Validate()
	if wrong, ok := errors.AsType[*cnipod.FieldError](err); ok {
		return invalidField(wrong.Field, "%s", wrong.Problem)
	}
	return err
}

// parseInjected reads what libcni and the runtime put beside our own fields.
func (c *config) parseInjected(object map[string]json.RawMessage) error {
	err := parseField(object, "capabilities", "names with true or false", &c.Capabilities)
	if err != nil {
		return err
	}
	var runtimeConfig map[string]json.RawMessage
	if err := parseField(object, "runtimeConfig", "an object", &runtimeConfig); err != nil {
		return err
	}
	err = parseField(runtimeConfig, keyAnnotations, "an object of strings", &c.annotations)
	if err != nil {
		return err
	}
	// libcni sends one list under both names. Keeping too much is harmless.
	for _, key := range []string{keyValidAttachments, keyAttachments} {
		if _, ok := object[key]; !ok {
			continue
		}
		c.isGC = true
		var valid []api.Key
		err := parseField(object, key, `a list of {"containerID", "ifname"}`, &valid)
		if err != nil {
			return err
		}
		c.valid = append(c.valid, valid...)
	}
	c.prevResult = object[keyPrevResult]
	return nil
}

// requirePrevResult says that the plugin must not be the first of a chain.
func (c *config) requirePrevResult() error {
	switch {
	case bytes.HasPrefix(c.prevResult, []byte("{")):
		return nil
	case len(c.prevResult) > 0 && string(c.prevResult) != "null":
		return invalidField(keyPrevResult, "want an object, got %.60s", c.prevResult)
	}
	return types.NewError(types.ErrInvalidNetworkConfig,
		"prevResult is missing: nsqueue must come after the plugins that set up the pod's network",
		"move the nsqueue entry to the end of the plugins list")
}

// requireVersion refuses a command that the version of the specification in the
// configuration does not have.
func (c *config) requireVersion(command, first string) error {
	if ok, err := version.GreaterThanOrEqualTo(c.cniVersion, first); err == nil && ok {
		return nil
	}
	return types.NewError(types.ErrIncompatibleCNIVersion,
		fmt.Sprintf("%s needs cniVersion %s or newer, the config has %s",
			command, first, c.cniVersion), "")
}

// refuseUnknown names every key that neither the plugin nor libcni knows.
func refuseUnknown(object map[string]json.RawMessage) error {
	known := []string{
		keySocket, keyFailurePolicy, keyExcludeNamespaces, keyPodAnnotations, keyPassAnnotations,
		"cniVersion", "name", "type", "capabilities", "runtimeConfig", keyPrevResult,
		"args", "ipam", "dns", keyValidAttachments, keyAttachments,
	}
	var unknown []string
	for key := range object {
		if !slices.Contains(known, key) {
			unknown = append(unknown, fmt.Sprintf("%.60q (value %.60s)", key, object[key]))
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	return types.NewError(types.ErrUnsupportedField,
		"unsupported config field "+strings.Join(unknown, ", "),
		"the nsqueue plugin's own fields are "+strings.Join(known[:5], ", "))
}

// parseField decodes one value; an absent or null one leaves into alone.
func parseField(object map[string]json.RawMessage, key, want string, into any) error {
	raw, ok := object[key]
	if !ok || string(raw) == "null" {
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return invalidField(key, "want %s, got %.60s", want, raw)
	}
	return nil
}

func invalidField(key, format string, args ...any) error {
	return types.NewError(types.ErrInvalidNetworkConfig,
		fmt.Sprintf("config field %q: "+format, append([]any{key}, args...)...), "")
}

// validName is the CNI specification's rule for network names.
func validName(s string) bool {
	for i, r := range []byte(s) {
		if !isAlphanumeric(r) && (i == 0 || !strings.ContainsRune("_.-", rune(r))) {
			return false
		}
	}
	return s != "" && len(s) <= api.MaxName
}

func isAlphanumeric(r byte) bool {
	return (r >= '0' && r <= '9') || (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z')
}
