package pods

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/source"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// Our defaults of a manifest are the API server's, field by field, for every pod of
// the table: those that it takes we take, and those that it calls invalid we do.
func TestDefaultsAndValidationAreTheAPIServers(t *testing.T) {
	t.Parallel()
	cluster := harness.SharedCluster(t)
	no := false
	for _, c := range slices.Concat(cases(t), invalid(t)) {
		if c.want.Only == "standalone" {
			continue // for a field that the API server drops, by a feature gate
		}
		text := strings.NewReplacer("${PORT}", "8080", "${DIR}", "/dir", "${NODE}", "node", "${NAMESPACE}", "default").Replace(c.manifest)
		objects, err := documents(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			if o["kind"] != "Pod" {
				continue
			}
			ours, err := as[v1.Pod](o)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			ours.Namespace = "default"
			// A token's volume is what admission adds, and so is a priority.
			ours.Spec.AutomountServiceAccountToken = &no
			ours.Spec.ServiceAccountName = "default"
			name := c.name + "/" + ours.Name
			theirs, apiErr := cluster.Client.CoreV1().Pods("default").Create(t.Context(), ours, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if apiErr != nil && !apierrors.IsInvalid(apiErr) {
				t.Errorf("%s: %v", name, apiErr)
				continue
			}
			source.SetDefaults(ours)
			problems := source.Validate(ours)
			if (apiErr != nil) != (len(problems) > 0) {
				t.Errorf("%s: the API server says %v, we say %v", name, apiErr, problems)
				continue
			}
			if apiErr != nil {
				continue
			}
			ours.Spec.Tolerations, theirs.Spec.Tolerations = nil, nil
			ours.Spec.Priority, theirs.Spec.Priority = nil, nil
			ours.Spec.PreemptionPolicy, theirs.Spec.PreemptionPolicy = nil, nil
			for _, d := range differences("spec", fields(t, ours.Spec), fields(t, theirs.Spec)) {
				t.Errorf("%s: %s", name, d)
			}
		}
	}
}

// fields is a value as JSON has it.
func fields(t *testing.T, v any) any {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// differences names each field that is not the same.
func differences(path string, ours, theirs any) []string {
	a, isMap := ours.(map[string]any)
	b, areMaps := theirs.(map[string]any)
	if isMap && areMaps {
		all := maps.Clone(a)
		maps.Copy(all, b)
		var out []string
		for _, k := range slices.Sorted(maps.Keys(all)) {
			out = append(out, differences(path+"."+k, a[k], b[k])...)
		}
		return out
	}
	x, isList := ours.([]any)
	y, areLists := theirs.([]any)
	if isList && areLists && len(x) == len(y) {
		var out []string
		for i := range x {
			out = append(out, differences(fmt.Sprintf("%s[%d]", path, i), x[i], y[i])...)
		}
		return out
	}
	if fmt.Sprint(ours) != fmt.Sprint(theirs) {
		return []string{fmt.Sprintf("%s is %v, the API server's %v", path, ours, theirs)}
	}
	return nil
}

// invalid are pods that nobody may take, by what is wrong with them.
func invalid(t *testing.T) []testCase {
	t.Helper()
	var all []testCase
	for i, spec := range []string{
		`{containers: []}`,
		`{containers: [{name: C, image: i}]}`,
		`{containers: [{name: c}]}`,
		`{containers: [{name: c, image: i}, {name: c, image: i}]}`,
		`{containers: [{name: c, image: i, env: [{name: "a=b"}]}]}`,
		`{containers: [{name: c, image: i, env: [{name: a, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}]}`,
		`{containers: [{name: c, image: i, ports: [{containerPort: 70000}]}]}`,
		`{containers: [{name: c, image: i, volumeMounts: [{name: v, mountPath: /v}]}]}`,
		`{containers: [{name: c, image: i, resources: {limits: {cpu: 1}, requests: {cpu: 2}}}]}`,
		`{containers: [{name: c, image: i, securityContext: {procMount: Unmasked}}]}`,
		`{containers: [{name: c, image: i, securityContext: {privileged: true, allowPrivilegeEscalation: false}}]}`,
		`{containers: [{name: c, image: i, livenessProbe: {}}]}`,
		`{containers: [{name: c, image: i, livenessProbe: {exec: {command: [x]}, successThreshold: 2}}]}`,
		`{containers: [{name: c, image: i, lifecycle: {preStop: {sleep: {seconds: 99}}}}]}`,
		`{containers: [{name: c, image: i}], restartPolicy: Sometimes}`,
		`{containers: [{name: c, image: i}], dnsPolicy: None}`,
		`{containers: [{name: c, image: i}], hostname: A_b}`,
		`{containers: [{name: c, image: i}], hostPID: true, shareProcessNamespace: true}`,
		`{containers: [{name: c, image: i}], activeDeadlineSeconds: 0}`,
		`{containers: [{name: c, image: i}], volumes: [{name: v}, {name: v}]}`,
		`{containers: [{name: c, image: i}], volumes: [{name: v, hostPath: {path: /a/../b}}]}`,
		`{containers: [{name: c, image: i}], securityContext: {runAsUser: -1}}`,
		`{containers: [{name: c, image: i}], initContainers: [{name: c, image: i}]}`,
		`{containers: [{name: c, image: i}], initContainers: [{name: d, image: i, livenessProbe: {exec: {command: [x]}}}]}`,
	} {
		all = append(all, testCase{name: fmt.Sprintf("invalid %d: %s", i, spec), manifest: fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: %s\n", spec)})
	}
	return all
}
