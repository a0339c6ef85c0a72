package options

import (
	"strings"
	"testing"
)

func TestParseTopologyManager(t *testing.T) {
	for name, tt := range map[string]struct {
		options map[string]string
		want    TopologyManager
		err     string
	}{
		"none":            {nil, TopologyManager{MaxNodes: 8}, ""},
		"both":            {map[string]string{"prefer-closest-numa-nodes": "true", "max-allowable-numa-nodes": "12"}, TopologyManager{PreferClosest: true, MaxNodes: 12}, ""},
		"fewer than ever": {map[string]string{"max-allowable-numa-nodes": "4"}, TopologyManager{}, `the minimum value of "max-allowable-numa-nodes" should not be less than 8`},
		"no number":       {map[string]string{"max-allowable-numa-nodes": "many"}, TopologyManager{}, `bad value for option "max-allowable-numa-nodes"`},
		"no boolean":      {map[string]string{"prefer-closest-numa-nodes": "please"}, TopologyManager{}, `bad value for option "prefer-closest-numa-nodes"`},
		"unknown":         {map[string]string{"fast": "true"}, TopologyManager{}, `unknown Topology Manager Policy option: "fast"`},
	} {
		got, err := ParseTopologyManager(tt.options)
		if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) || tt.err == "" && (err != nil || got != tt.want) {
			t.Errorf("%s: %+v, %v; want %+v, %q", name, got, err, tt.want, tt.err)
		}
	}
}
