package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// warnings names what was set and the kubelet knows but is not acted on here, once
// each, in the order of the tables.
func (c *Config) warnings(set *Flags) []string {
	var list []string
	for _, f := range fields {
		place, ok := c.origins[f.path]
		if !ok || f.verdict == honoured || c.harmless(f) {
			continue
		}
		list = append(list, fmt.Sprintf("%s is known to the kubelet but not honoured here (%s)", describe(place, f.path), f.text))
	}
	list = append(list, c.gateWarnings()...)
	list = append(list, c.networkWarnings()...)
	list = append(list, c.rareWarnings()...)
	for i := range flags {
		fl := &flags[i]
		if fl.field != "" || fl.verdict == honoured || fl.does == "*" {
			continue
		}
		for _, a := range set.set {
			if a.flag == fl && a.value != "" && !slices.Contains(strings.Split(fl.does, "|"), a.value) {
				list = append(list, fl.warning())
				break
			}
		}
	}
	return list
}

func (f *flag) warning() string {
	if f.gone {
		return fmt.Sprintf("--%s is a flag of older kubelets and has no effect; in its place: %s", f.name, f.text)
	}
	return fmt.Sprintf("--%s is known to the kubelet but not honoured here (%s)", f.name, f.text)
}

func describe(place, path string) string {
	if strings.HasPrefix(place, "--") {
		return place
	}
	return place + ": " + path
}

// harmless reports whether the value that was set is what happens anyway.
func (c *Config) harmless(f field) bool {
	switch f.does {
	case "*":
		return true
	case "":
		return jsonOf(&c.KubeletConfiguration, f.path) == jsonOf(defaultedConfiguration(), f.path)
	}
	got := jsonOf(&c.KubeletConfiguration, f.path)
	return got == f.does || got == "null" && f.does == "{}"
}

// defaultedConfiguration is the configuration of an agent for which nothing was set.
func defaultedConfiguration() any {
	c := newConfig()
	setDefaults(c)
	return &c.KubeletConfiguration
}

// jsonOf encodes the field at path of the configuration that root points to; "null"
// if an object on the way is absent.
func jsonOf(root any, path string) string {
	v := reflect.ValueOf(root).Elem()
	for name := range strings.SplitSeq(path, ".") {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return "null"
			}
			v = v.Elem()
		}
		var ok bool
		if v, ok = fieldByJSON(v, name); !ok {
			return "null"
		}
	}
	text, err := json.Marshal(v.Interface())
	if err != nil {
		return "null"
	}
	return string(text)
}
