package manifest

import (
	"fmt"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
)

// lines finds fields in a document's text. The text is parsed when the first field
// is looked up.
type lines struct {
	text   piece
	parsed bool
	root   *yamlv3.Node
}

// of returns the line of the file that has the field, or else the deepest part of
// its path that the document has.
func (l *lines) of(path string) int {
	l.parse()
	if l.root == nil {
		return l.text.line
	}
	n, line := l.root, l.root.Line
	for _, key := range pathKeys(path) {
		for n.Kind == yamlv3.AliasNode {
			n = n.Alias
		}
		next, at := child(n, key)
		if next == nil {
			break
		}
		n, line = next, at
	}
	return l.text.line + line - 1
}

func (l *lines) parse() {
	if l.parsed {
		return
	}
	l.parsed = true
	var root yamlv3.Node
	if err := yamlv3.Unmarshal(l.text.text, &root); err == nil && len(root.Content) > 0 {
		l.root = root.Content[0]
	}
}

// child steps from a node to the value of a key or index, and returns its line: the
// key's, because the value may begin on the next.
func child(n *yamlv3.Node, key string) (*yamlv3.Node, int) {
	switch n.Kind {
	case yamlv3.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				return n.Content[i+1], n.Content[i].Line
			}
		}
	case yamlv3.SequenceNode:
		if i, err := strconv.Atoi(key); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i], n.Content[i].Line
		}
	}
	return nil, 0
}

// pathKeys splits a path such as spec.containers[0].resources.limits[a.b/c].
func pathKeys(path string) []string {
	var keys []string
	for path != "" {
		if path[0] == '[' {
			end := strings.IndexByte(path, ']')
			if end < 0 {
				return append(keys, path[1:])
			}
			keys = append(keys, path[1:end])
			path = path[end+1:]
			continue
		}
		path = strings.TrimPrefix(path, ".")
		end := strings.IndexAny(path, ".[")
		if end < 0 {
			end = len(path)
		}
		if end > 0 {
			keys = append(keys, path[:end])
		}
		path = path[end:]
	}
	return keys
}

// doubledKey is a key that one mapping has twice, and on which line of the text its second
// value begins.
type doubledKey struct {
	line    int
	message string
}

// doubled returns the keys that stand twice in one mapping. known is false if the strict parser can
// mean something else: there are none, and no merges either. A key that a merge ("<<") brings and
// that is given after it stands there once: its own value counts. Before the merge it counts as
// doubled, since parsers disagree about which value wins.
func (l *lines) doubled() (found []doubledKey, known bool) {
	l.parse()
	if l.root == nil {
		return nil, false
	}
	merges := false
	var visit func(n *yamlv3.Node)
	visit = func(n *yamlv3.Node) {
		if n.Kind == yamlv3.MappingNode {
			found = append(found, doubledIn(n)...)
			for i := 0; i < len(n.Content); i += 2 {
				merges = merges || n.Content[i].Tag == mergeTag
			}
		}
		for _, c := range n.Content { // an alias has none: what it stands for is visited where it stands
			visit(c)
		}
	}
	visit(l.root)
	return found, merges || len(found) > 0
}

func doubledIn(n *yamlv3.Node) (found []doubledKey) {
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		for k.Kind == yamlv3.AliasNode {
			k = k.Alias
		}
		if k.Kind != yamlv3.ScalarNode {
			continue // JSON has no such keys
		}
		name := keyOf(k)
		if seen[name] {
			found = append(found, doubledKey{v.Line, fmt.Sprintf("key %q already set in map", bounds.Quote(k.Value))})
		}
		if k.Tag == mergeTag && len(seen) > 0 {
			merged(v, maxMerges, func(name string) {
				if seen[name] {
					found = append(found, doubledKey{v.Line, fmt.Sprintf("key %q stands before the merge that brings it as well: write \"<<\" first", bounds.Quote(name))})
				}
			})
		}
		seen[name] = true
	}
	return found
}

// keyOf is the key that a scalar becomes in JSON, by the rules of YAML 1.1: yes and on are one key,
// and so are 1 and 0x1.
func keyOf(k *yamlv3.Node) string {
	if k.Style&(yamlv3.DoubleQuotedStyle|yamlv3.SingleQuotedStyle) != 0 {
		return k.Value
	}
	switch strings.ToLower(k.Value) {
	case "y", "yes", "on", "true":
		return "true"
	case "n", "no", "off", "false":
		return "false"
	}
	var i int64
	if k.Tag == "!!int" && k.Decode(&i) == nil {
		return strconv.FormatInt(i, 10)
	}
	var f float64
	if k.Tag == "!!float" && k.Decode(&f) == nil {
		return strconv.FormatFloat(f, 'g', -1, 32) // as the library that makes JSON of YAML
	}
	return k.Value
}

const (
	mergeTag  = "!!merge"
	maxMerges = 100 // of merges in what is merged; the parser before us has refused loops
)

// merged calls each with the keys that the value of a merge brings.
func merged(v *yamlv3.Node, depth int, each func(name string)) {
	if v.Kind == yamlv3.AliasNode {
		v = v.Alias
	}
	if depth == 0 {
		return
	}
	switch v.Kind {
	case yamlv3.SequenceNode:
		for _, one := range v.Content {
			merged(one, depth-1, each)
		}
	case yamlv3.MappingNode:
		for i := 0; i+1 < len(v.Content); i += 2 {
			switch k := v.Content[i]; {
			case k.Tag == mergeTag:
				merged(v.Content[i+1], depth-1, each)
			case k.Kind == yamlv3.ScalarNode:
				each(keyOf(k))
			}
		}
	}
}
