package devicemanager

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
)

// devs makes healthy devices of words like "a", "b@0" and "c@0,1".
func devs(words string) map[string]device {
	out := map[string]device{}
	for word := range strings.FieldsSeq(words) {
		id, nodes, _ := strings.Cut(word, "@")
		d := device{healthy: true}
		for n := range strings.SplitSeq(nodes, ",") {
			if n != "" {
				d.nodes |= numa.Of(int(n[0] - '0'))
			}
		}
		out[id] = d
	}
	return out
}

func TestChoice(t *testing.T) {
	for name, tt := range map[string]struct {
		n                         int
		free, reusable, preferred string
		near                      numa.Set
		want, asked, certain      string // what the plug-in is asked to choose from
	}{
		"the first":                          {1, "c b a", "", "", 0, "a", "a b c", ""},
		"all":                                {3, "c b a", "", "", 0, "a b c", "", ""},
		"too few":                            {4, "c b a", "", "", 0, "", "", ""},
		"again what an init container had":   {2, "a b", "z", "", 0, "a z", "a b z", "z"},
		"only that":                          {1, "a b", "y z", "", 0, "y", "", ""},
		"what the plug-in prefers":           {2, "a b c", "", "c", 0, "a c", "a b c", ""},
		"not what it does not have":          {1, "a b", "", "x", 0, "a", "a b", ""},
		"near":                               {1, "a@0 b@1 c", "", "", numa.Of(1), "b", "", ""},
		"preferred among those that are":     {1, "a@0 b@1 c@1 d@0", "", "a c", numa.Of(1), "c", "b c", ""},
		"all that are near and one more":     {3, "a@0 b@1 c@1 d", "", "", numa.Of(1), "a b c", "a b c d", "b c"},
		"no node, and no preference of them": {1, "a b", "", "", numa.Of(1), "a", "a b", ""},
		"of two nodes":                       {1, "a@0 b@0,1", "", "", numa.Of(1), "b", "", ""},
	} {
		r := request{resource: "r", n: tt.n, free: devs(tt.free), reusable: devs(tt.reusable), near: tt.near}
		got, err := r.choose(strings.Fields(tt.preferred))
		if ids := strings.Join(slices.Sorted(maps.Keys(got)), " "); ids != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%s: chose %q, %v", name, ids, err)
		}
		asked, certain := r.preference()
		slices.Sort(asked)
		if a, c := strings.Join(asked, " "), strings.Join(certain, " "); tt.want != "" && a != tt.asked || a != "" && c != tt.certain {
			t.Errorf("%s: the plug-in is asked for some of %q, %q being certain", name, a, c)
		}
	}
}

func TestHints(t *testing.T) {
	for name, tt := range map[string]struct {
		all, available, reusable string
		n                        int
		want                     string
	}{
		"no node":            {"a b", "a b", "", 1, ""},
		"one of either":      {"a@0 b@1", "a@0 b@1", "", 1, "0! 1! 0-1"},
		"both":               {"a@0 b@1", "a@0 b@1", "", 2, "0-1!"},
		"one is taken":       {"a@0 b@0 c@1", "b@0 c@1", "", 2, "0-1"},
		"again":              {"a@0 b@1", "b@1", "a@0", 1, "0! 0-1"},
		"unknown node":       {"a@0 b@7", "a@0 b@7", "", 1, "0!"},
		"more than it has":   {"a@0 b@1", "a@0 b@1", "", 3, "none"},
		"nodes of no device": {"a@7", "a@7", "", 1, "none"},
	} {
		got := hints(devs(tt.all), devs(tt.available), devs(tt.reusable), tt.n, numa.Of(0, 1))
		var words []string
		for _, h := range got {
			word := h.Nodes.String()
			if h.Preferred {
				word += "!"
			}
			words = append(words, word)
		}
		text := strings.Join(words, " ")
		if got != nil && len(got) == 0 {
			text = "none"
		}
		if text != tt.want {
			t.Errorf("%s: %q, want %q", name, text, tt.want)
		}
	}
}
