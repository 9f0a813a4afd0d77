// SPDX-License-Identifier: Apache-2.0

package doctor

import "strings"

// relation of two versions.
type relation int

const (
	unclear relation = iota
	same
	different
)

// revision is what a version says: of a release, of a commit, or of a commit
// after a release. Versions come from git describe or from the Go toolchain.
type revision struct {
	release, commit string
	dirty           bool // with changes that no commit has
}

// parseVersion returns an empty revision for what is no version.
func parseVersion(s string) revision {
	clean, dirty := strings.CutSuffix(s, "-dirty")
	if !dirty {
		clean, dirty = strings.CutSuffix(s, "+dirty")
	}
	if isHex(clean) { // git describe without tags
		return revision{commit: clean, dirty: dirty}
	}
	if !isRelease(clean) {
		return revision{}
	}
	parts := strings.Split(clean, "-")
	n := len(parts)
	if n >= 3 { // TAG-COMMITS-gCOMMIT
		commit, ok := strings.CutPrefix(parts[n-1], "g")
		if ok && isHex(commit) && isDigits(parts[n-2]) {
			return revision{strings.Join(parts[:n-2], "-"), commit, dirty}
		}
	}
	if n >= 2 && isHex(parts[n-1]) { // v1.2.4-0.20260102150405-COMMIT
		stamp := parts[n-2][strings.LastIndexByte(parts[n-2], '.')+1:]
		if len(stamp) == len("20060102150405") && isDigits(stamp) {
			return revision{commit: parts[n-1], dirty: dirty}
		}
	}
	return revision{release: clean, dirty: dirty}
}

// compare says what two versions are to each other, as far as they tell.
func compare(x, y string) relation {
	a, b := parseVersion(x), parseVersion(y)
	switch {
	case x == y && says(x):
		return same
	case a == revision{} || b == revision{}:
		return unclear
	case a.commit != "" && b.commit != "":
		return compareCommits(a, b)
	case a.release == "" || b.release == "":
		return unclear // the commit may be that of the release
	case (a.commit == b.commit) != (a.release == b.release):
		return different
	}
	return unclear // two releases, or one with changes that no commit has
}

// says reports whether a version says anything at all.
func says(version string) bool {
	return version != "" && version != "unknown" && version != "(devel)"
}

// compareCommits compares commits, of which one may be shortened.
func compareCommits(a, b revision) relation {
	switch {
	case !strings.HasPrefix(a.commit, b.commit) && !strings.HasPrefix(b.commit, a.commit):
		return different
	case a.dirty || b.dirty:
		return unclear
	}
	return same
}

// isRelease reports whether s begins as a version does, and has no more to it
// than one.
func isRelease(s string) bool {
	return len(s) > 1 && s[0] == 'v' && isDigits(s[1:2]) && !strings.ContainsAny(s, " \t\n")
}

func isHex(s string) bool { return len(s) >= 7 && strings.Trim(s, "0123456789abcdef") == "" }

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
