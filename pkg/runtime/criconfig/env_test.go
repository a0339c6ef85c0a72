package criconfig

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestExpand(t *testing.T) {
	values := map[string]string{"A": "a", "EMPTY": "", "NESTED": "$(A)", "ODD NAME": "odd", "(": "paren"}
	for in, want := range map[string]string{
		"":                   "",
		"plain":              "plain",
		"$(A)":               "a",
		"x$(A)y$(A)z":        "xayaz",
		"$(EMPTY)":           "",
		"$(UNKNOWN)":         "$(UNKNOWN)",
		"$$(A)":              "$(A)",
		"$$$(A)":             "$a",
		"$$$$(A)":            "$$(A)",
		"$$":                 "$",
		"$":                  "$",
		"a$":                 "a$",
		"$A":                 "$A",
		"$(A":                "$(A",
		"$(":                 "$(",
		"$()":                "$()",
		"$(NESTED)":          "$(A)",
		"$(ODD NAME)":        "odd",
		"$(()":               "paren",
		"$é(A)":              "$é(A)",
		"$(A)$(A":            "a$(A",
		"$($(A))":            "$($(A))",
		"$(UNKNOWN$(A)) end": "$(UNKNOWN$(A)) end",
	} {
		if got, err := Expand(in, 100, func(n string) (string, bool) { v, ok := values[n]; return v, ok }); got != want || err != nil {
			t.Errorf("Expand(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
}

// A text that begins a million references and ends none is searched once, not a
// million times: that took minutes, at each start and each exec probe.
func TestExpandOfReferencesWithoutEnd(t *testing.T) {
	s := ")" + strings.Repeat("$(", 2<<20)
	begun := time.Now()
	if got, err := Expand(s, len(s), func(string) (string, bool) { return "", true }); got != s || err != nil {
		t.Errorf("%d bytes, %v, want the same %d", len(got), err, len(s))
	}
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("took %v", took)
	}
}

func FuzzExpand(f *testing.F) {
	for _, s := range []string{"$(A)", "$$(A)", "$(", "$$$", "a$(B)c", "$é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		// What refers to nothing known differs from the text only by its
		// escapes, and escaping all of it gives the text back.
		none := func(string) (string, bool) { return "", false }
		if got, err := Expand(s, len(s), none); err != nil || strings.ReplaceAll(got, "$", "") != strings.ReplaceAll(s, "$", "") || len(got) > len(s) {
			t.Errorf("Expand(%q) = %q without any variable", s, got)
		}
		if got, err := Expand(strings.ReplaceAll(s, "$", "$$"), len(s), func(string) (string, bool) { return "X", true }); got != s || err != nil {
			t.Errorf("escaped %q came back as %q", s, got)
		}
	})
}

type objects struct {
	configMaps map[string]*v1.ConfigMap
	secrets    map[string]*v1.Secret
	err        error
	asked      int
}

func (o *objects) ConfigMap(_ context.Context, _, name string) (*v1.ConfigMap, error) {
	o.asked++
	if m := o.configMaps[name]; m != nil || o.err != nil {
		return m, o.err
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmap"}, name)
}

func (o *objects) Secret(_ context.Context, _, name string) (*v1.Secret, error) {
	o.asked++
	if s := o.secrets[name]; s != nil || o.err != nil {
		return s, o.err
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secret"}, name)
}

func TestEnvironment(t *testing.T) {
	yes := true
	there := func() *objects {
		return &objects{
			configMaps: map[string]*v1.ConfigMap{"c": {Data: map[string]string{"k": "from-map", "odd.key": "dots", "A": "map"}}},
			secrets:    map[string]*v1.Secret{"s": {Data: map[string][]byte{"k": []byte("from-secret")}}},
		}
	}
	mapKey := func(name, key string, optional *bool) *v1.EnvVarSource {
		return &v1.EnvVarSource{ConfigMapKeyRef: &v1.ConfigMapKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: name}, Key: key, Optional: optional}}
	}
	secretKey := func(name, key string, optional *bool) *v1.EnvVarSource {
		return &v1.EnvVarSource{SecretKeyRef: &v1.SecretKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: name}, Key: key, Optional: optional}}
	}
	fromMap := func(name, prefix string, optional *bool) v1.EnvFromSource {
		return v1.EnvFromSource{Prefix: prefix, ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: name}, Optional: optional}}
	}
	fromSecret := func(name string, optional *bool) v1.EnvFromSource {
		return v1.EnvFromSource{SecretRef: &v1.SecretEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: name}, Optional: optional}}
	}
	for name, tt := range map[string]struct {
		from    []v1.EnvFromSource
		env     []v1.EnvVar
		objects Objects
		service map[string]string
		want    string
		err     string
	}{
		"in the order of the spec, the last of a name wins": {env: []v1.EnvVar{{Name: "B", Value: "1"}, {Name: "A", Value: "2"}, {Name: "B", Value: "3"}}, want: "B=3 A=2"},
		"a reference sees only what came before":            {env: []v1.EnvVar{{Name: "A", Value: "$(B)"}, {Name: "B", Value: "b$(A)"}}, want: "A=$(B) B=b$(B)"},
		"service variables can be referred to and replaced": {env: []v1.EnvVar{{Name: "A", Value: "$(S)"}, {Name: "S", Value: "own"}}, service: map[string]string{"S": "svc", "T": "t"}, want: "T=t A=svc S=own"},
		"a key of a ConfigMap and of a Secret":              {env: []v1.EnvVar{{Name: "M", ValueFrom: mapKey("c", "k", nil)}, {Name: "S", ValueFrom: secretKey("s", "k", nil)}}, objects: there(), want: "M=from-map S=from-secret"},
		"envFrom with a prefix, any printable name":         {from: []v1.EnvFromSource{fromMap("c", "P_", nil), fromSecret("s", nil)}, objects: there(), want: "P_A=map P_k=from-map P_odd.key=dots k=from-secret"},
		"env replaces envFrom":                              {from: []v1.EnvFromSource{fromMap("c", "", nil)}, env: []v1.EnvVar{{Name: "A", Value: "own"}}, objects: there(), want: "A=own k=from-map odd.key=dots"},
		"optional and missing":                              {from: []v1.EnvFromSource{fromMap("no", "", &yes), fromSecret("no", &yes)}, env: []v1.EnvVar{{Name: "A", ValueFrom: mapKey("no", "k", &yes)}, {Name: "B", ValueFrom: secretKey("s", "no", &yes)}, {Name: "C", ValueFrom: mapKey("c", "no", &yes)}}, objects: there(), want: ""},
		"optional without any source of objects":            {from: []v1.EnvFromSource{fromMap("no", "", &yes)}, env: []v1.EnvVar{{Name: "B", ValueFrom: secretKey("s", "no", &yes)}}, want: ""},

		"missing ConfigMap":                  {env: []v1.EnvVar{{Name: "A", ValueFrom: mapKey("no", "k", nil)}}, objects: there(), err: `configmap "no" not found`},
		"missing Secret in envFrom":          {from: []v1.EnvFromSource{fromSecret("no", nil)}, objects: there(), err: `secret "no" not found`},
		"missing key of a ConfigMap":         {env: []v1.EnvVar{{Name: "A", ValueFrom: mapKey("c", "no", nil)}}, objects: there(), err: "couldn't find key no in ConfigMap ns/c"},
		"missing key of a Secret":            {env: []v1.EnvVar{{Name: "A", ValueFrom: secretKey("s", "no", nil)}}, objects: there(), err: "couldn't find key no in Secret ns/s"},
		"no source of ConfigMaps":            {env: []v1.EnvVar{{Name: "A", ValueFrom: mapKey("c", "k", nil)}}, err: `configmap "c": this node has no source of ConfigMaps`},
		"no source of Secrets":               {from: []v1.EnvFromSource{fromSecret("s", nil)}, err: `secret "s": this node has no source of Secrets`},
		"optional, but the source is broken": {env: []v1.EnvVar{{Name: "A", ValueFrom: mapKey("c", "k", &yes)}}, objects: &objects{err: errors.New("server is down")}, err: "server is down"},
		"no name":                            {env: []v1.EnvVar{{Name: "", Value: "x"}}, err: "invalid environment variable name"},
		"a name with =":                      {env: []v1.EnvVar{{Name: "A=B", Value: "x"}}, err: "invalid environment variable name"},
		"a prefix that makes no name":        {from: []v1.EnvFromSource{fromMap("c", "=", nil)}, objects: there(), err: "invalid environment variable name"},
		"an unknown field":                   {env: []v1.EnvVar{{Name: "A", ValueFrom: &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: "spec.nope"}}}}, err: "unsupported fieldPath: spec.nope"},
		"an unknown resource":                {env: []v1.EnvVar{{Name: "A", ValueFrom: &v1.EnvVarSource{ResourceFieldRef: &v1.ResourceFieldSelector{Resource: "limits.gpu"}}}}, err: "unsupported container resource : limits.gpu"},
		"a source of later releases":         {env: []v1.EnvVar{{Name: "A", ValueFrom: &v1.EnvVarSource{}}}, err: "its valueFrom is not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &v1.Pod{}
			pod.Name, pod.Namespace, pod.UID = "p", "ns", "u"
			c := &v1.Container{Name: "c", Env: tt.env, EnvFrom: tt.from}
			pod.Spec.Containers = []v1.Container{*c}
			got, err := Container(t.Context(), pod, c, ContainerInput{Objects: tt.objects, ServiceEnv: tt.service})
			if tt.err != "" {
				checkError(t, err, ReasonContainerConfig, tt.err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var all []string
			for _, e := range got.Envs {
				all = append(all, e.Key+"="+string(e.Value))
			}
			if strings.Join(all, " ") != tt.want {
				t.Errorf("got  %s\nwant %s", strings.Join(all, " "), tt.want)
			}
		})
	}
}

func TestEachObjectIsAskedForOnce(t *testing.T) {
	o := &objects{configMaps: map[string]*v1.ConfigMap{"c": {Data: map[string]string{"a": "1", "b": "2"}}}}
	ref := func(key string) *v1.EnvVarSource {
		return &v1.EnvVarSource{ConfigMapKeyRef: &v1.ConfigMapKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "c"}, Key: key}}
	}
	c := &v1.Container{Env: []v1.EnvVar{{Name: "A", ValueFrom: ref("a")}, {Name: "B", ValueFrom: ref("b")}},
		EnvFrom: []v1.EnvFromSource{{ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "c"}}}}}
	if _, err := Container(t.Context(), &v1.Pod{}, c, ContainerInput{Objects: o}); err != nil || o.asked != 1 {
		t.Errorf("asked %d times, %v; want once", o.asked, err)
	}
}
