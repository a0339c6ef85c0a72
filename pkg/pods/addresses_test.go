package pods

import (
	"slices"
	"testing"
)

func TestAddressesAreOneOfEachFamilyInTheNodesOrder(t *testing.T) {
	v4, v6 := []string{"192.0.2.1"}, []string{"2001:db8::1", "192.0.2.1"}
	for name, tt := range map[string]struct {
		all, node, want []string
	}{
		"one":                             {[]string{"10.0.0.2"}, v4, []string{"10.0.0.2"}},
		"none":                            {nil, v4, nil},
		"interfaces of one family":        {[]string{"10.0.0.2", "10.1.0.2", "10.2.0.2"}, v4, []string{"10.0.0.2"}},
		"the node's family comes first":   {[]string{"fd00::2", "10.0.0.2"}, v4, []string{"10.0.0.2", "fd00::2"}},
		"also where that is IPv6":         {[]string{"10.0.0.2", "10.0.0.3", "fd00::2", "fd00::3"}, v6, []string{"fd00::2", "10.0.0.2"}},
		"the other family alone":          {[]string{"fd00::2"}, v4, []string{"fd00::2"}},
		"of a node without address":       {[]string{"fd00::2", "10.0.0.2"}, nil, []string{"10.0.0.2", "fd00::2"}},
		"what is none, and what is usual": {[]string{"", "eth1", "010.000.000.002", "FD00:0::2"}, v4, []string{"10.0.0.2", "fd00::2"}},
	} {
		if got := Addresses(tt.all, tt.node); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
