package podfields

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const uncovered = "testdata/uncovered.txt"

// A case of test/pods, which asks the kernel, should set every field that is called
// honoured. The list of fields that no case sets may only shrink: -update removes
// lines, and adding one is a decision to make by hand.
func TestHonouredFieldsAreInTheTableOfPods(t *testing.T) {
	files, err := filepath.Glob("../../../test/pods/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	set := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, ".want.yaml") || strings.Contains(file, "refused") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range strings.Split("\n"+strings.ReplaceAll(string(text), "${PORT}", "8080"), "\n---") {
			var pod v1.Pod
			if strings.Contains(doc, "\nkind: Pod\n") {
				if err := yaml.Unmarshal([]byte(doc), &pod); err != nil {
					t.Fatalf("%s: %v", file, err)
				}
				mark(reflect.ValueOf(pod.Spec), set)
			}
		}
	}
	var missing []string
	for _, typ := range reachable() {
		for _, f := range fieldsOf(typ) {
			if key := typ.Name() + "." + f.name; everything.honours(sections[typ.Name()][f.name].verdict) && !set[key] {
				missing = append(missing, key)
			}
		}
	}
	known, _ := os.ReadFile(uncovered)
	listed := strings.Fields(string(known))
	for _, m := range missing {
		if !slices.Contains(listed, m) {
			t.Errorf("no case of test/pods sets %s", m)
		}
	}
	if *update && !t.Failed() {
		if err := os.WriteFile(uncovered, []byte(strings.Join(missing, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, l := range listed {
		if !slices.Contains(missing, l) {
			t.Errorf("%s has %s, which is set by a case or gone: go test ./pkg/admission/podfields -update", uncovered, l)
		}
	}
}

// mark notes each field that a value sets.
func mark(v reflect.Value, set map[string]bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			mark(v.Elem(), set)
		}
	case reflect.Slice:
		for i := range v.Len() {
			mark(v.Index(i), set)
		}
	case reflect.Struct:
		if !described(v.Type()) {
			return
		}
		for _, f := range fieldsOf(v.Type()) {
			if field := v.FieldByIndex(f.index); !field.IsZero() {
				set[v.Type().Name()+"."+f.name] = true
				mark(field, set)
			}
		}
	}
}
