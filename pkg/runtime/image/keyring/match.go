package keyring

import (
	"net"
	"net/url"
	"path"
	"slices"
	"strings"
)

// Matches reports whether a repository, such as "reg.example:5000/team/app", matches
// a pattern: a host, in which * stands for any part of one label, the repository's
// port, and the beginning of its path. As in the kubelet, that may end within a
// name: "reg.example/te" is the beginning of "reg.example/team".
func Matches(pattern, repository string) bool {
	p, err := parse(pattern)
	if err != nil {
		return false
	}
	r, err := parse(repository)
	if err != nil {
		return false
	}
	patternHost, patternPort := splitPort(p.Host)
	host, port := splitPort(r.Host)
	want, have := strings.Split(patternHost, "."), strings.Split(host, ".")
	if patternPort != port || len(want) != len(have) || !strings.HasPrefix(r.Path, p.Path) {
		return false
	}
	for i := range want {
		if ok, err := path.Match(want[i], have[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

// ValidPattern returns why a pattern can never match, nil if it can.
func ValidPattern(pattern string) error {
	_, err := parse(pattern)
	return err
}

func parse(s string) (*url.URL, error) { return url.Parse("https://" + s) }

func splitPort(host string) (name, port string) {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		return host, ""
	}
	return name, port
}

// location returns the pattern of an entry in a Docker configuration, whose key may
// be the URL of a registry's API.
func location(key string) (pattern string, ok bool) {
	if !strings.HasPrefix(key, "https://") && !strings.HasPrefix(key, "http://") {
		key = "https://" + key
	}
	u, err := url.Parse(key)
	if err != nil {
		return "", false
	}
	below := u.Path
	if strings.HasPrefix(below, "/v1/") || strings.HasPrefix(below, "/v2/") {
		below = below[len("/v1"):]
	}
	if below == "/" {
		below = ""
	}
	return u.Host + below, true
}

// The names of Docker Hub: in Docker's own files, and in normalised image names.
const (
	hubKey  = "index.docker.io"
	hubHost = "docker.io/"
)

// Index holds credentials by the pattern of the repositories they are for. The zero
// value is empty. One goroutine fills it before anybody reads it.
type Index struct{ entries []entry }

type entry struct {
	pattern    string
	credential Credential
}

// Add adds the entries of a Docker configuration from that source.
func (x *Index) Add(logins Logins, from Source) {
	for key, l := range logins {
		if pattern, ok := location(key); ok && !l.empty() {
			x.entries = append(x.entries, entry{pattern, l.credential(from)})
		}
	}
	// Among equal patterns, those added first stay first; the entries of one
	// configuration get an order, since a map has none.
	slices.SortStableFunc(x.entries, func(a, b entry) int { return strings.Compare(b.pattern, a.pattern) })
}

// Find returns the credentials for a repository with its registry's name, longer
// patterns first; for a Docker Hub repository that has none, those for
// index.docker.io.
func (x *Index) Find(repository string) []Credential {
	var found, hub []Credential
	for _, e := range x.entries {
		if Matches(e.pattern, repository) {
			found = append(found, e.credential)
		}
		if e.pattern == hubKey {
			hub = append(hub, e.credential)
		}
	}
	if len(found) == 0 && strings.HasPrefix(repository, hubHost) {
		return hub
	}
	return found
}
