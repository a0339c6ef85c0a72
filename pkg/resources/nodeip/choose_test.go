package nodeip

import (
	"slices"
	"strings"
	"testing"
)

func TestGiven(t *testing.T) {
	host := []string{"192.0.2.7", "2001:db8::7", "127.0.0.1"}
	tests := map[string]struct {
		given []string
		want  []string
		err   string
	}{
		"one":             {[]string{"192.0.2.7"}, []string{"192.0.2.7"}, ""},
		"dual stack":      {[]string{"192.0.2.7", "2001:DB8::7"}, []string{"192.0.2.7", "2001:db8::7"}, ""},
		"not of the host": {[]string{"192.0.2.8"}, nil, "not an address of this host"},
		"loopback":        {[]string{"127.0.0.1"}, nil, "loopback"},
		"link-local":      {[]string{"fe80::1"}, nil, "link-local"},
		"no address":      {[]string{"node"}, nil, "one of IPv4 and one of IPv6"},
		"two of a family": {[]string{"192.0.2.7", "192.0.2.8"}, nil, "one of IPv4 and one of IPv6"},
		"three":           {[]string{"::", "192.0.2.7", "2001:db8::7"}, nil, "one of IPv4 and one of IPv6"},
	}
	if got, err := checked([]string{"192.0.2.99"}, nil); err != nil || !slices.Equal(got, []string{"192.0.2.99"}) {
		t.Errorf("where it need not be the host's: %v, %v", got, err)
	}
	for name, tt := range tests {
		got, err := checked(tt.given, host)
		if !slices.Equal(got, tt.want) || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestChoose(t *testing.T) {
	host := []string{"127.0.0.1", "10.0.2.15", "192.168.56.10", "fe80::1", "2001:db8::7", "::1"}
	for name, tt := range map[string]struct {
		facts
		want string
	}{
		"the name decides, not the route":     {facts{resolved: []string{"192.168.56.10"}, ofHost: host, byRoute: "10.0.2.15"}, "192.168.56.10"},
		"the name is the loopback's":          {facts{resolved: []string{"127.0.1.1", "::1"}, ofHost: append(host, "127.0.1.1"), byRoute: "10.0.2.15"}, "10.0.2.15"},
		"the name is another machine's":       {facts{resolved: []string{"192.0.2.1"}, ofHost: host, byRoute: "10.0.2.15"}, "10.0.2.15"},
		"the name is link-local":              {facts{resolved: []string{"fe80::1"}, ofHost: host, byRoute: "10.0.2.15"}, "10.0.2.15"},
		"the name is no address":              {facts{resolved: []string{"x"}, ofHost: host, byRoute: "10.0.2.15"}, "10.0.2.15"},
		"IPv4 is preferred":                   {facts{resolved: []string{"2001:db8::7", "192.168.56.10"}, ofHost: host}, "192.168.56.10"},
		"IPv6 on request":                     {facts{preferIPv6: true, resolved: []string{"192.168.56.10", "2001:DB8::7"}, ofHost: host}, "2001:db8::7"},
		"the other family rather than none":   {facts{resolved: []string{"2001:db8::7"}, ofHost: host, byRoute: "10.0.2.15"}, "2001:db8::7"},
		"the node is named after its address": {facts{hostname: "192.0.2.9", ofHost: host, byRoute: "10.0.2.15"}, "192.0.2.9"},
		"no name, no route":                   {facts{ofHost: host}, ""},
	} {
		if got := choose(tt.facts); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func TestMakeshift(t *testing.T) {
	for want, host := range map[string][]string{"10.0.2.15": {"127.0.0.1", "fe80::1", "10.0.2.15", "2001:db8::7"}, "127.0.0.1": {"127.0.0.1", "::1"}} {
		if got := makeshift(host); got != want {
			t.Errorf("%v: %s, want %s", host, got, want)
		}
	}
}
