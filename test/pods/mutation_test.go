package pods

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/server/why"
	"github.com/mini-kubelet/mini-kubelet/pkg/source/manifest"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// one of so many mutations is compared; MINI_KUBELET_MUTATIONS=all compares all,
// which takes minutes.
const oneOf = 32

// Whatever one field of a pod in the table is changed to, our verdict is the API
// server's.
func TestMutatedPodsAreJudgedAsByTheAPIServer(t *testing.T) {
	t.Parallel()
	cluster := harness.SharedCluster(t)
	all := os.Getenv("MINI_KUBELET_MUTATIONS") == "all"
	type mutant struct {
		name string
		pod  *v1.Pod
	}
	work := make(chan mutant)
	var wg sync.WaitGroup
	for range 2 { // other tests run meanwhile
		wg.Go(func() {
			for m := range work {
				// Nothing has judged what admission refuses.
				if err := judge(t.Context(), cluster, m.pod); err != nil && !errors.As(err, new(apierrors.APIStatus)) {
					t.Errorf("%s: %v", m.name, err)
				}
			}
		})
	}
	made := mutants(t, all, func(name string, pod *v1.Pod) { work <- mutant{name, pod.DeepCopy()} })
	close(work)
	wg.Wait()
	t.Logf("%d mutations of the table's pods compared", made)
}

// mutants calls f with the table's pods, each changed in one field, and with what was changed; it returns how many
// there were. A pod is only f's until it returns.
func mutants(t *testing.T, all bool, f func(name string, pod *v1.Pod)) (made int) {
	t.Helper()
	seen := map[uint64]bool{}
	change := func(name string, pod *v1.Pod, deep int) {
		mutate(reflect.ValueOf(&pod.Spec).Elem(), "spec", deep, func(what string) {
			text, err := json.Marshal(&pod.Spec)
			if err != nil {
				t.Fatal(err)
			}
			h := fnv.New64a()
			h.Write(text)
			if pod.Spec.OS != nil && pod.Spec.OS.Name == v1.Windows {
				return // which no node of ours runs, whatever else it says
			}
			if n := h.Sum64(); !seen[n] && (all || n%oneOf == 0) {
				seen[n] = true
				made++
				f(name+": "+what, pod)
			}
		})
	}
	change("least", &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p"},
		Spec:       v1.PodSpec{Containers: []v1.Container{{Name: "c", Image: "i"}}},
	}, 3)
	for _, c := range cases(t) {
		for _, pod := range podsOf(t, c) {
			change(c.name+"/"+pod.Name, pod, 0)
		}
	}
	return made
}

// A manifest that one field breaks gets one sentence, which names that field, or the one that it no longer agrees with.
func TestWhyNamesTheFieldThatBreaksAManifest(t *testing.T) {
	t.Parallel()
	origin := manifest.Origin{Source: pods.SourceFile, From: "/m/pod.yaml", Node: "n1", Objects: true}
	refused := 0
	mutants(t, os.Getenv("MINI_KUBELET_MUTATIONS") == "all", func(name string, pod *v1.Pod) {
		pod.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
		text, err := yaml.Marshal(pod)
		if err != nil {
			t.Fatal(err)
		}
		in := why.Inputs{Node: origin.Node}
		for _, p := range manifest.Problems(origin.Read(text), origin.Source, origin.From) {
			if !p.Warning {
				in.Problems = append(in.Problems, why.Problem{Kind: p.Kind, Name: p.Name, File: p.File, Line: p.Line, Field: p.Field, Message: p.Message})
			}
		}
		r := why.Why(t.Context(), &in)
		switch {
		case len(in.Problems) == 0:
			if len(r.Findings) > 0 {
				t.Errorf("%s: of a good manifest it says %+v", name, r.Findings)
			}
			return
		case len(r.Findings) != 1:
			t.Errorf("%s: %d sentences, want one: %+v", name, len(r.Findings), r.Findings)
			return
		}
		refused++
		f := &r.Findings[0]
		if !placeInFile.MatchString(f.Where) || f.Fix == "" {
			t.Errorf("%s: it says %q, and in %q is what mends it", name, f.Sentence(time.Now()), f.Where)
		}
		changed, _, _ := strings.Cut(strings.TrimSuffix(name[strings.Index(name, ": ")+2:], " has its first twice"), " = ")
		if p := in.Problems[0]; !agree(p, changed) {
			t.Errorf("%s: it says %q", name, f.Sentence(time.Now()))
		}
	})
	if refused < 500 {
		t.Errorf("only %d mutations were refused", refused)
	}
}

// agree reports whether a problem is about the field that was changed, or about one beside it: which of two that
// exclude each other is to blame is in the API server's words. A volume that is renamed is missed by what uses it.
func agree(p why.Problem, changed string) bool {
	if strings.HasPrefix(changed, "spec.volumes") && strings.HasPrefix(p.Message, "Not found") {
		return true
	}
	a, b := steps(p.Field), steps(changed)
	if strings.Contains(strings.ToLower(p.Message), strings.ToLower(b[len(b)-1])+" ") {
		return true // it names it, if only as the API's words do: "can only use volume source type of PersistentVolumeClaim or"
	}
	common := 0
	for common < min(len(a), len(b)) && strings.EqualFold(a[common], b[common]) {
		common++
	}
	return common >= min(len(a), len(b))-1
}

// steps are the parts of a path; a key in brackets is one.
func steps(path string) []string {
	inKey := false
	return strings.FieldsFunc(path, func(r rune) bool {
		if r == '[' || r == ']' {
			inKey = r == '['
			return true
		}
		return r == '.' && !inKey
	})
}

// What a field may be changed to, by its type.
var (
	texts      = []string{"", "A_b", "-a.b", "a", "../a", "/a/../b", "a b", "1", "a:b", strings.Repeat("a", 260)}
	numbers    = []int64{-1, 0, 1, 3, 70000, 1 << 31}
	quantities = []string{"-1", "0", "1", "1500m", "3Gi"}
)

// elsewhere holds fields that the node ignores, and those that the API server drops by
// default or leaves to admission.
var elsewhere = []string{
	"spec.affinity.podAffinity", "spec.affinity.podAntiAffinity", "spec.topologySpreadConstraints", "spec.schedulingGates",
	"spec.schedulingGroup", ".lifecycle.stopSignal", ".podCertificate", ".bindMountOptions", ".emptyDir.mode", ".httpGet.protocol", ".grpc.mode",
	".defaultUser", "].user", ".clusterTrustBundle.user", ".serviceAccountToken.user", "spec.evictionResponders",
}

// mutate changes v in one way after the other, calls f each time with the
// difference, and restores it. Missing objects are added, and changed themselves,
// that many levels deep.
func mutate(v reflect.Value, path string, deep int, f func(what string)) {
	if slices.ContainsFunc(elsewhere, func(field string) bool { return strings.HasSuffix(path, field) }) {
		return
	}
	was := reflect.New(v.Type()).Elem()
	was.Set(v)
	try := func(x any) {
		v.Set(reflect.ValueOf(x).Convert(v.Type()))
		f(fmt.Sprintf("%s = %.40v", path, x))
		v.Set(was)
	}
	switch x := v.Interface().(type) {
	case metav1.Time:
		return // no field of a specification that means anything has one
	case resource.Quantity:
		for _, q := range quantities {
			try(resource.MustParse(q))
		}
		return
	case intstr.IntOrString:
		for _, n := range numbers {
			try(intstr.IntOrString{Type: intstr.Int, IntVal: int32(n)})
		}
		for _, s := range texts {
			try(intstr.FromString(s))
		}
		return
	case v1.ResourceList:
		for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory, v1.ResourceEphemeralStorage, "hugepages-2Mi", "hugepages-1Mi", "example.com/a", "a b", "a"} {
			for _, q := range quantities {
				list := x.DeepCopy()
				if list == nil {
					list = v1.ResourceList{}
				}
				list[name] = resource.MustParse(q)
				v.Set(reflect.ValueOf(list))
				f(fmt.Sprintf("%s[%s] = %s", path, name, q))
				v.Set(was)
			}
		}
		return
	case map[string]string:
		for _, key := range texts {
			try(map[string]string{key: "a"})
		}
		for _, text := range texts {
			try(map[string]string{"a": text})
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
			f(path + " = {}")
			if deep > 0 || v.Elem().Kind() != reflect.Struct {
				mutate(v.Elem(), path, deep-1, f)
			}
			v.Set(was)
			return
		}
		v.SetZero()
		f(path + " = nil")
		v.Set(was)
		v.Set(reflect.New(v.Type().Elem()))
		v.Elem().Set(was.Elem())
		mutate(v.Elem(), path, deep, f)
		v.Set(was)
	case reflect.Struct:
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			sub := path
			if name != "" {
				sub += "." + name
			}
			mutate(v.Field(i), sub, deep, f)
		}
	case reflect.Slice:
		if v.Len() == 0 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			f(path + " = [{}]")
			if deep > 0 || v.Index(0).Kind() != reflect.Struct {
				mutate(v.Index(0), path+"[0]", deep-1, f)
			}
			v.Set(was)
			return
		}
		v.SetZero()
		f(path + " = []")
		v.Set(was)
		v.Set(reflect.Append(v.Slice3(0, v.Len(), v.Len()), v.Index(0)))
		f(path + " has its first twice")
		v.Set(was)
		for i := range v.Len() {
			mutate(v.Index(i), fmt.Sprintf("%s[%d]", path, i), deep, f)
		}
	case reflect.String:
		for _, s := range texts {
			try(s)
		}
	case reflect.Bool:
		try(!v.Bool())
	case reflect.Int32, reflect.Int64:
		for _, n := range numbers {
			try(n)
		}
	}
}
