package agent

import (
	"slices"
	"strings"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
)

func TestNodeIPs(t *testing.T) {
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
		"no address":      {[]string{"node"}, nil, "not an IP address"},
	}
	for name, tt := range tests {
		got, err := nodeIPs(tt.given, host)
		if !slices.Equal(got, tt.want) || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestNodeHasOneAddressOfEachFamily(t *testing.T) {
	for given, ok := range map[string]bool{"192.0.2.7": true, "192.0.2.7,2001:db8::7": true, "192.0.2.7,192.0.2.8": false, "::,192.0.2.7,2001:db8::7": false} {
		c := &config.Config{NodeIPs: strings.Split(given, ",")} // standalone: they need not be the host's
		if got, err := givenIPs(c); (err == nil) != ok || ok && len(got) != len(c.NodeIPs) {
			t.Errorf("%s: %v, %v", given, got, err)
		}
	}
}
