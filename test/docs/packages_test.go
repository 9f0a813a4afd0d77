// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/nsqueue/nsqueue/"

// The table of docs/architecture.md has the packages that are programs or parts of
// them, with all that they import of each other, in an order in which imports
// point downwards.
func TestPackageTable(t *testing.T) {
	table, order := packageTable(t)
	sources := make(map[string][]string)
	for _, dir := range []string{"plugin", "ctl", "daemon", "internal"} {
		readPackages(t, dir, sources)
	}
	if diff := cmp.Diff(sources, table); diff != "" {
		t.Errorf("the packages of docs/architecture.md (-source +page):\n%s", diff)
	}
	for i, name := range order {
		for _, above := range order[:i] {
			if slices.Contains(table[name], above) {
				t.Errorf("%s imports %s, which is above it", name, above)
			}
		}
	}
}

// packageTable returns what each package of the table imports, sorted, and the
// order of the rows.
func packageTable(t *testing.T) (table map[string][]string, order []string) {
	t.Helper()
	_, text, _ := strings.Cut(read(t, "docs/architecture.md"), "\n## Packages\n")
	row := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]*) \\|")
	table = make(map[string][]string)
	for _, match := range row.FindAllStringSubmatch(text, -1) {
		imports := make(map[string]bool)
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(match[2], -1) {
			imports[name[1]] = true
		}
		table[match[1]] = slices.Sorted(maps.Keys(imports))
		order = append(order, match[1])
	}
	return table, order
}

// readPackages adds the packages below a directory that are no helpers of tests.
func readPackages(t *testing.T, dir string, packages map[string][]string) {
	t.Helper()
	imports := make(map[string]map[string]bool)
	err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ fs.DirEntry, err error) error {
		name := short(strings.TrimPrefix(filepath.Dir(path), root+"/"))
		if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") ||
			strings.HasSuffix(name, "test") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		if imports[name] == nil {
			imports[name] = make(map[string]bool)
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if ours, ok := strings.CutPrefix(imported, module); ok {
				imports[name][short(ours)] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, set := range imports {
		packages[name] = slices.Sorted(maps.Keys(set))
	}
}

// short is the name that the table has for a package.
func short(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, "daemon/"), "internal/")
}

// The packages that other programs can import are those that hack/apidiff.sh compares
// with the last release; test/ and examples/ are left out.
func TestPublicPackages(t *testing.T) {
	_, after, _ := strings.Cut(read(t, "hack/apidiff.sh"), "\npackages='")
	list, _, _ := strings.Cut(after, "'")
	var public []string
	for _, dir := range goDirectories(t) {
		if !strings.Contains("/"+dir+"/", "/internal/") && !isProgram(t, dir) {
			public = append(public, dir)
		}
	}
	if diff := cmp.Diff(strings.Fields(list), public); diff != "" {
		t.Errorf("public packages (-hack/apidiff.sh +source):\n%s", diff)
	}
}

// goDirectories returns the directories that have Go files other than tests,
// sorted.
func goDirectories(t *testing.T) []string {
	t.Helper()
	found := make(map[string]bool)
	for _, top := range []string{"plugin", "ctl", "conflist", "daemon", "docs", "internal", "kmod"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, _ fs.DirEntry, err error) error {
			if filepath.Ext(path) == ".go" && !strings.HasSuffix(path, "_test.go") {
				found[strings.TrimPrefix(filepath.Dir(path), root+"/")] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// isProgram reports whether the Go files of a directory are a program.
func isProgram(t *testing.T, dir string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatal(dir, err)
	}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.PackageClauseOnly)
		if err != nil {
			t.Fatal(err)
		}
		if file.Name.Name == "main" {
			return true
		}
	}
	return false
}
