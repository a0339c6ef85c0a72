package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"

	yamlv3 "go.yaml.in/yaml/v3"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/yaml"
)

const configKind = "KubeletConfiguration"

// dropInFiles lists the *.conf files of dir and of directories in it, each of them in the order of its
// names, in which the kubelet merges them.
func dropInFiles(dir string) ([]string, error) {
	if dir == "" {
		return nil, nil
	}
	var files []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.IsDir() && filepath.Ext(path) == ".conf" {
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("--config-dir: %w", err)
	}
	return files, nil
}

// readFile merges one file into cfg: what it sets wins, maps are merged, lists
// replaced.
func readFile(cfg *Config, name string) error {
	data, err := read(name)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	if err := decode(cfg, name, data); err != nil {
		return err
	}
	return cfg.resolvePaths(name)
}

// maxFile is how many bytes a file of the configuration may have; a full one has under a tenth of it.
const maxFile = 1 << 20

// read reads a file of the configuration. It does not wait for somebody to write into a pipe.
func read(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", name, maxFile)
	}
	return data, err
}

// resolvePaths makes the relative paths that the file has set relative to its directory, as with the kubelet.
func (c *Config) resolvePaths(file string) error {
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return fmt.Errorf("find the directory of %s: %w", file, err)
	}
	for _, p := range c.paths() {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	return nil
}

// paths are the fields of KubeletConfiguration that name files.
func (c *Config) paths() []*string {
	k := &c.KubeletConfiguration
	list := []*string{&k.StaticPodPath, &k.PodLogsDir, &k.VolumePluginDir, &k.Authentication.X509.ClientCAFile, &k.TLSCertFile, &k.TLSPrivateKeyFile}
	if k.ResolverConfig != nil {
		list = append(list, k.ResolverConfig)
	}
	return list
}

// decode merges YAML or JSON into cfg and notes where each field was set. All
// problems are reported at once, each as "file:line: field: cause".
//
// It walks the document alongside the type instead of passing the whole to a
// decoder: that gives every error a line and a field path.
func decode(cfg *Config, name string, data []byte) error {
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && trimmed[0] == '{' {
		// JSON allows tabs between tokens and never inside strings; YAML does not.
		data = bytes.ReplaceAll(data, []byte("\t"), []byte(" "))
	}
	dec := yamlv3.NewDecoder(bytes.NewReader(data))
	var doc yamlv3.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: the file is empty, want a %s", name, configKind)
		}
		return fmt.Errorf("%s: %s", name, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := dec.Decode(new(yamlv3.Node)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: more than one document, want a single %s", name, configKind)
	}
	root := doc.Content[0]
	d := &decoder{file: name, origins: cfg.origins}
	budget := maxNodes
	if n := overgrown(root, map[*yamlv3.Node]bool{}, &budget); n != nil {
		d.fail(n, "", "anchors and aliases that contain themselves or grow without end")
		return errs(d.errs)
	}
	if root.Kind != yamlv3.MappingNode {
		d.fail(root, "", "want a %s, a mapping of fields", configKind)
		return errs(d.errs)
	}
	if err := d.checkKind(root); err != nil {
		return err
	}
	d.object(root, reflect.ValueOf(&cfg.KubeletConfiguration).Elem(), "")
	return errs(d.errs)
}

type decoder struct {
	file    string
	origins origins
	errs    []error
}

func (d *decoder) fail(n *yamlv3.Node, path, format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	if path != "" {
		msg = path + ": " + msg
	}
	d.errs = append(d.errs, fmt.Errorf("%s:%d: %s", d.file, n.Line, msg))
}

// checkKind refuses a file of another kind before its fields are called unknown.
func (d *decoder) checkKind(root *yamlv3.Node) error {
	want := map[string]string{"kind": configKind, "apiVersion": kubeletconfig.SchemeGroupVersion.String()}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, val := root.Content[i], root.Content[i+1]
		if w, ok := want[key.Value]; ok {
			if val.Value != w {
				return fmt.Errorf("%s:%d: %s is %q, want %q", d.file, val.Line, key.Value, val.Value, w)
			}
			delete(want, key.Value)
		}
	}
	for _, key := range []string{"apiVersion", "kind"} {
		if w, missing := want[key]; missing {
			return fmt.Errorf("%s:%d: %s is missing, want %q", d.file, root.Line, key, w)
		}
	}
	return nil
}

// mergeTag is that of the key <<.
const mergeTag = "!!merge"

// object decodes a mapping into the struct v field by field.
func (d *decoder) object(n *yamlv3.Node, v reflect.Value, path string) {
	seen := map[string]int{}
	content := d.merged(n, path)
	for i := 0; i+1 < len(content); i += 2 {
		key, val := content[i], resolve(content[i+1])
		at := join(path, key.Value)
		if line, dup := seen[key.Value]; dup {
			d.fail(key, at, "set twice, first on line %d", line)
			continue
		}
		seen[key.Value] = key.Line
		field, ok := fieldByJSON(v, key.Value)
		if !ok {
			d.fail(key, at, "unknown field%s", suggest(key.Value, v.Type()))
			continue
		}
		d.origins[at] = fmt.Sprintf("%s:%d", d.file, key.Line)
		d.value(val, field, at)
	}
}

// merged returns the keys and values of a mapping and of those merged into it. What is there besides wins, as a whole: the
// value of a key is never mixed from both. Of several mappings the first wins.
func (d *decoder) merged(n *yamlv3.Node, path string) (content []*yamlv3.Node) {
	has := map[string]bool{}
	var merges []*yamlv3.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], resolve(n.Content[i+1])
		switch {
		case key.Tag != mergeTag:
			content, has[key.Value] = append(content, key, val), true
		case val.Kind == yamlv3.SequenceNode:
			merges = append(merges, val.Content...)
		default:
			merges = append(merges, val)
		}
	}
	for _, m := range merges {
		if m = resolve(m); m.Kind != yamlv3.MappingNode {
			d.fail(m, path, "a merge key wants a mapping")
			continue
		}
		more := d.merged(m, path)
		for i := 0; i+1 < len(more); i += 2 {
			if key := more[i].Value; !has[key] {
				content, has[key] = append(content, more[i], more[i+1]), true
			}
		}
	}
	return content
}

// value decodes any node into v: structs are walked; everything else is a leaf,
// decoded through JSON as the API machinery would.
func (d *decoder) value(n *yamlv3.Node, v reflect.Value, path string) {
	if n.Tag == "!!null" { // not set: the default applies, whatever files before this one say
		v.SetZero()
		d.origins.forget(path)
		return
	}
	t := v.Type()
	if t.Kind() == reflect.Pointer && isObject(t.Elem()) {
		if v.IsNil() {
			v.Set(reflect.New(t.Elem()))
		}
		v, t = v.Elem(), t.Elem()
	}
	switch {
	case isObject(t):
		if n.Kind != yamlv3.MappingNode {
			d.fail(n, path, "want a mapping of fields")
			return
		}
		d.object(n, v, path)
	case t.Kind() == reflect.Slice && isObject(t.Elem()):
		if n.Kind != yamlv3.SequenceNode {
			d.fail(n, path, "want a list")
			return
		}
		list := reflect.MakeSlice(t, len(n.Content), len(n.Content))
		for i, item := range n.Content {
			d.value(resolve(item), list.Index(i), fmt.Sprintf("%s[%d]", path, i))
		}
		v.Set(list)
	default:
		d.leaf(n, v, path)
	}
}

func (d *decoder) leaf(n *yamlv3.Node, v reflect.Value, path string) {
	text, err := yamlv3.Marshal(unaliased(n))
	if err == nil {
		text, err = yaml.YAMLToJSONStrict(text)
	}
	if err != nil {
		d.fail(n, path, "%v", err)
		return
	}
	if v.Kind() == reflect.Slice {
		v.SetZero() // a list replaces, it is not appended to
	}
	if err := json.Unmarshal(text, v.Addr().Interface()); err != nil {
		var te *json.UnmarshalTypeError
		if errors.As(err, &te) {
			d.fail(n, path, "want %s, got %s", describeType(v.Type()), te.Value)
			return
		}
		d.fail(n, path, "%v", err)
		return
	}
	if v.Kind() == reflect.Map && n.Kind == yamlv3.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if resolve(n.Content[i+1]).Tag == "!!null" {
				v.SetMapIndex(reflect.ValueOf(n.Content[i].Value), reflect.Value{})
			}
		}
	}
}

// maxNodes limits what a file may expand to, where each hundred bytes of a value count as another node; a full
// configuration is under a thousand.
const maxNodes = 100_000

// overgrown returns a node at which the document, with its aliases followed, would
// never end or would exceed the budget; nil if there is none.
func overgrown(n *yamlv3.Node, open map[*yamlv3.Node]bool, budget *int) *yamlv3.Node {
	if *budget -= 1 + len(n.Value)/100; *budget < 0 || open[n] {
		return n
	}
	open[n] = true
	defer delete(open, n)
	if n.Kind == yamlv3.AliasNode {
		return overgrown(n.Alias, open, budget)
	}
	for _, c := range n.Content {
		if bad := overgrown(c, open, budget); bad != nil {
			return bad
		}
	}
	return nil
}

// resolve follows a YAML alias to its anchor.
func resolve(n *yamlv3.Node) *yamlv3.Node {
	for n.Kind == yamlv3.AliasNode {
		n = n.Alias
	}
	return n
}

// unaliased returns a copy of a node that stands alone.
func unaliased(n *yamlv3.Node) *yamlv3.Node {
	c := *resolve(n)
	c.Anchor, c.Content = "", slices.Clone(c.Content)
	for i := range c.Content {
		c.Content[i] = unaliased(c.Content[i])
	}
	return &c
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// isObject reports whether values of the type are written as a mapping of its fields,
// unlike a Duration or a Quantity, which have a form of their own.
func isObject(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]())
}

// fieldByJSON finds the field of struct v with that JSON name, also in embedded structs.
func fieldByJSON(v reflect.Value, name string) (reflect.Value, bool) {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && tag == "" {
			if inner, ok := fieldByJSON(v.Field(i), name); ok {
				return inner, true
			}
			continue
		}
		if tag == name && tag != "-" && tag != "" {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// suggest returns the field that differs from an unknown one only in case, the most
// common mistake.
func suggest(name string, t reflect.Type) string {
	for i := range t.NumField() {
		tag, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if tag != "" && strings.EqualFold(tag, name) {
			return fmt.Sprintf(", did you mean %q?", tag)
		}
	}
	return ""
}

// describeType describes the JSON that a Go type needs.
func describeType(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int32, reflect.Int64, reflect.Uint32:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.String:
		return "a string"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Int32 {
			return "a list of whole numbers"
		}
		return "a list of strings"
	case reflect.Map:
		if t.Elem().Kind() == reflect.Bool {
			return "a mapping of names to true or false"
		}
		return "a mapping of strings"
	}
	return "a duration such as 20s"
}
