// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// krewPlugin is krew's manifest of a plugin, with all that it has of krew's fields.
type krewPlugin struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   map[string]string `json:"metadata"`
	Spec       struct {
		Version          string `json:"version"`
		Homepage         string `json:"homepage"`
		ShortDescription string `json:"shortDescription"`
		Description      string `json:"description"`
		Caveats          string `json:"caveats"`
		Platforms        []struct {
			Selector struct {
				MatchLabels struct {
					OS   string `json:"os"`
					Arch string `json:"arch"`
				} `json:"matchLabels"`
			} `json:"selector"`
			URI    string `json:"uri"`
			SHA256 string `json:"sha256"`
			Bin    string `json:"bin"`
		} `json:"platforms"`
	} `json:"spec"`
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile("../../" + path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The manifest has the platforms that a release has, and leads to its files; the release
// writes version and checksums.
func TestKrew(t *testing.T) {
	var p krewPlugin
	if err := yaml.UnmarshalStrict([]byte(read(t, "deploy/krew/nsqueue.yaml")), &p); err != nil {
		t.Fatal(err)
	}
	if p.APIVersion != "krew.googlecontainertools.github.com/v1alpha2" || p.Kind != "Plugin" ||
		p.Metadata["name"] != "nsqueue" || p.Spec.Version != "v@VERSION@" {
		t.Errorf("%+v", p)
	}
	// krew refuses longer ones, and those with a point at the end.
	if d := p.Spec.ShortDescription; d == "" || len(d) > 50 || strings.HasSuffix(d, ".") {
		t.Errorf("short description %q", d)
	}
	const files = "https://github.com/nsqueue/nsqueue/releases/download/v@VERSION@/kubectl-nsqueue-@VERSION@-"
	var got []string
	for _, platform := range p.Spec.Platforms {
		name := platform.Selector.MatchLabels.OS + "-" + platform.Selector.MatchLabels.Arch
		got = append(got, name)
		if platform.URI != files+name+".tar.gz" || platform.SHA256 != "@"+name+"@" ||
			platform.Bin != "kubectl-nsqueue" {
			t.Errorf("%s: %+v", name, platform)
		}
	}
	want := regexp.MustCompile(`(?m)^platforms='(.*)'$`).FindStringSubmatch(read(t, "hack/release.sh"))
	if want == nil {
		t.Fatal("hack/release.sh names no platforms")
	}
	slices.Sort(got)
	if diff := cmp.Diff(slices.Sorted(slices.Values(strings.Fields(want[1]))), got); diff != "" {
		t.Errorf("platforms (-release +manifest):\n%s", diff)
	}
}
