// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"crypto/rand"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// newToken returns a secret of 128 bits and more.
func newToken() string { return rand.Text() }

// guard lets through only who knows the token, which every path begins with, and asks
// for this server by an address: a page of another site can neither be there by a name
// that leads here, nor send its requests here.
type guard struct {
	token string
	hosts []string // names and addresses that the server goes by
	next  http.Handler
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	harden(w.Header())
	token, rest, found := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case !g.goesBy(r.Host):
		http.Error(w, "The page has another address: open the one that nsqueuectl ui has printed.",
			http.StatusForbidden)
	case foreign(r):
		http.Error(w, "Pages of other sites may not ask here.", http.StatusForbidden)
	case subtle.ConstantTimeCompare([]byte(token), []byte(g.token)) != 1 || !found:
		http.Error(w, "The token is missing or wrong: open the address that nsqueuectl ui has "+
			"printed.", http.StatusUnauthorized)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		http.Error(w, "Here is nothing to change.", http.StatusMethodNotAllowed)
	default:
		stripped := r.Clone(r.Context())
		stripped.URL.Path, stripped.URL.RawPath = "/"+rest, ""
		g.next.ServeHTTP(w, stripped)
	}
}

// goesBy reports whether a request's Host is one of the server's. The port may be that of
// a forwarder.
func (g *guard) goesBy(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	if a, err := netip.ParseAddr(name); err == nil && a.IsLoopback() {
		return true
	}
	for _, own := range g.hosts {
		if strings.EqualFold(name, own) {
			return true
		}
	}
	return strings.EqualFold(name, "localhost")
}

// foreign reports whether a browser says that another site's page is asking.
func foreign(r *http.Request) bool {
	if origin := r.Header.Get("Origin"); origin != "" && origin != "http://"+r.Host {
		return true
	}
	site := r.Header.Get("Sec-Fetch-Site")
	return site == "cross-site" || site == "same-site"
}

// policy allows the page its own files and nothing else. Trusted types have the browser
// refuse to make elements of text.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types 'none'"

func harden(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}
