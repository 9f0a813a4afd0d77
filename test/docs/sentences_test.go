// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"regexp"
	"strings"
	"testing"
)

// No sentence stands on two pages: where one of them changes, the other would be
// wrong. Short ones, such as those in cells of tables, say nothing of their own.
func TestNoSentenceTwice(t *testing.T) {
	const short = 60
	ends := regexp.MustCompile(`\. |\n\n|\n- |\n\d+\. | \| |\n\| `)
	fenced := regexp.MustCompile("(?s)```.*?```")
	first := make(map[string]string)
	for page, text := range pages(t) {
		seen := make(map[string]bool)
		for _, sentence := range ends.Split(fenced.ReplaceAllString(text, ""), -1) {
			sentence = strings.Trim(strings.Join(strings.Fields(sentence), " "), " .|")
			if len(sentence) < short || seen[sentence] {
				continue
			}
			seen[sentence] = true
			if other := first[sentence]; other != "" {
				t.Errorf("%s and %s both say %q", other, page, sentence)
			}
			first[sentence] = page
		}
	}
}
