package criconfig

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// A short spec can ask for more than there is memory: each variable is ten of the one
// before, or one key of a ConfigMap is the value of many.
func TestAShortSpecMakesNoLongEnvironment(t *testing.T) {
	tenfold := []v1.EnvVar{{Name: "V0", Value: "0123456789"}}
	for i := range 12 {
		tenfold = append(tenfold, v1.EnvVar{Name: fmt.Sprint("V", i+1), Value: strings.Repeat(fmt.Sprintf("$(V%d)", i), 10)})
	}
	long := v1.EnvVar{Name: "LONG", Value: strings.Repeat("x", 100<<10)}
	twice := strings.Repeat("$(LONG)", 100_000)
	key := &v1.EnvVarSource{ConfigMapKeyRef: &v1.ConfigMapKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "m"}, Key: "k"}}
	note := &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: "metadata.annotations['k']"}}
	many := func(from *v1.EnvVarSource) (all []v1.EnvVar) {
		for i := range 20_000 {
			all = append(all, v1.EnvVar{Name: fmt.Sprint("V", i), ValueFrom: from})
		}
		return all
	}
	var envFrom []v1.EnvFromSource
	for i := range 20_000 {
		envFrom = append(envFrom, v1.EnvFromSource{Prefix: fmt.Sprint("P", i), ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "m"}}})
	}
	pod := &v1.Pod{}
	pod.Annotations = map[string]string{"k": strings.Repeat("x", 200<<10)}
	in := ContainerInput{Objects: &objects{configMaps: map[string]*v1.ConfigMap{"m": {Data: map[string]string{"k": strings.Repeat("x", 1000<<10)}}}}}
	for name, c := range map[string]v1.Container{
		"variables of variables":    {Env: tenfold},
		"a variable, often":         {Env: []v1.EnvVar{long, {Name: "V", Value: twice}}},
		"a command":                 {Env: []v1.EnvVar{long}, Command: []string{twice}},
		"arguments":                 {Env: []v1.EnvVar{long}, Command: []string{"x"}, Args: strings.Split(strings.Repeat("$(LONG)$(LONG) ", 50_000), " ")},
		"a key of a ConfigMap":      {Env: many(key)},
		"a ConfigMap of many names": {EnvFrom: envFrom},
		"an annotation":             {Env: many(note)},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Container(t.Context(), pod, &c, in)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, ErrTooLong) {
				t.Errorf("error %v", err)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 10*MaxArguments {
				t.Errorf("%d MiB were allocated", used>>20)
			}
		})
	}
	mount := v1.VolumeMount{Name: "v", SubPathExpr: twice}
	env := &environment{values: map[string]string{"LONG": long.Value}}
	if sub, err := subPath(&mount, env); err == nil {
		t.Errorf("a path of %d bytes", len(sub))
	}
}

func TestALongEnvironmentThatAProgramCanHave(t *testing.T) {
	c := v1.Container{Args: []string{"$(V)"}}
	for range 40 { // the last of a name counts
		c.Env = append(c.Env, v1.EnvVar{Name: "V", Value: strings.Repeat("x", MaxArguments/3)})
	}
	got, err := Container(t.Context(), &v1.Pod{}, &c, ContainerInput{})
	if err != nil || len(got.Envs) != 1 || len(got.Args[0]) != MaxArguments/3 {
		t.Errorf("%v", err)
	}
}
