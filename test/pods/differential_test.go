package pods

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/admission/podfields"
	"github.com/mini-kubelet/mini-kubelet/pkg/source/manifest"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// Our defaults for a manifest are the API server's, field by field, for every pod
// of the table: we accept those that it accepts, and call invalid those that it
// calls invalid.
func TestDefaultsAndValidationAreTheAPIServers(t *testing.T) {
	t.Parallel()
	cluster := harness.SharedCluster(t)
	t.Cleanup(func() { removeForAll(cluster.Client, "default") })
	for _, c := range slices.Concat(cases(t), invalid(t)) {
		classesOf(t, cluster, c)
		for _, pod := range podsOf(t, c) {
			if err := judge(t.Context(), cluster, pod); err != nil {
				t.Errorf("%s/%s: %v", c.name, pod.Name, err)
			}
		}
	}
}

// objectsOf reads a case's manifest with any values for what is filled in.
func objectsOf(t *testing.T, c testCase) []map[string]any {
	t.Helper()
	text := strings.NewReplacer("${PORT}", "8080", "${DIR}", "/dir", "${NODE}", "node", "${NAMESPACE}", "default", "${REGISTRY}", "registry.example", "${CSI}", "csi.example", "${DOCKER_ROOT}", "/docker", "${ABOVE_DOCKER_ROOT}", "/").Replace(c.manifest)
	objects, err := documents(text)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// podsOf returns the pods of a case that the API server is asked about too.
func podsOf(t *testing.T, c testCase) []*v1.Pod {
	t.Helper()
	if c.want.Only == "standalone" {
		return nil // for a field that the API server drops, by a feature gate
	}
	var pods []*v1.Pod
	for _, o := range objectsOf(t, c) {
		if o["kind"] == "Pod" {
			pod, err := as[v1.Pod](o)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			pods = append(pods, pod)
		}
	}
	return pods
}

// classesOf makes the RuntimeClasses that a case's pods name.
func classesOf(t *testing.T, cluster *harness.Cluster, c testCase) {
	t.Helper()
	for _, o := range objectsOf(t, c) {
		if o["kind"] == "RuntimeClass" {
			if err := createForAll(t.Context(), cluster.Client, "default", o); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// everything is a node that can do all that any of ours can.
var everything = podfields.Features{Objects: true, Tokens: true, Claims: true, Cgroups: true, Classes: true, Bundles: true}

// judge returns how our verdict on a pod, or what we make of it, differs from the API
// server's.
func judge(ctx context.Context, cluster *harness.Cluster, ours *v1.Pod) error {
	ours.Namespace = "default"
	// A token's volume is what admission adds, and so is a priority.
	ours.Spec.AutomountServiceAccountToken = new(false)
	ours.Spec.ServiceAccountName = "default"
	theirs, refusal := cluster.Client.CoreV1().Pods("default").Create(ctx, ours, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if refusal != nil && !apierrors.IsInvalid(refusal) {
		return refusal
	}
	manifest.SetDefaults(ours)
	problems := manifest.Validate(ours)
	switch {
	case refusal != nil && len(podfields.Refused(ours, everything)) > 0:
		return nil // for the node's own reason
	case (refusal != nil) != (len(problems) > 0):
		return fmt.Errorf("the API server says %v, we say %v", refusal, problems)
	case refusal != nil:
		return nil
	}
	for _, s := range []*v1.PodSpec{&ours.Spec, &theirs.Spec} {
		s.Tolerations, s.Priority, s.PreemptionPolicy = nil, nil, nil
	}
	return compare(ours.Spec, theirs.Spec)
}

// compare names each field of a specification that is not the same.
func compare(ours, theirs any) error {
	a, err := fields(ours)
	if err != nil {
		return err
	}
	b, err := fields(theirs)
	if err != nil {
		return err
	}
	if d := differences("spec", a, b); len(d) > 0 {
		return errors.New(strings.Join(d, "; "))
	}
	return nil
}

// fields returns a value in the form of JSON.
func fields(v any) (out any, err error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return out, json.Unmarshal(text, &out)
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

// invalid holds pods that nobody may accept, by what is wrong with them.
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
		`{containers: [{name: c, image: i}], volumes: [{name: v, emptyDir: {sizeLimit: -1}}]}`,
		`{containers: [{name: c, image: i, resources: {limits: {ephemeral-storage: 1Mi}, requests: {ephemeral-storage: 2Mi}}}]}`,
		`{containers: [{name: c, image: i}], resources: {limits: {ephemeral-storage: 1Mi}}}`,
		`{containers: [{name: c, image: i, volumeMounts: [{name: v, mountPath: /v, recursiveReadOnly: Enabled}]}], volumes: [{name: v, emptyDir: {}}]}`,
		`{containers: [{name: c, image: i}], volumes: [{name: v, iscsi: {targetPortal: "h:1", iqn: nothing, lun: 1}}]}`,
		`{containers: [{name: c, image: i}], volumes: [{name: v, iscsi: {targetPortal: "h:1", iqn: iqn.2026-11.example, lun: 1}}]}`,
		`{containers: [{name: c, image: i}], volumes: [{name: v, iscsi: {targetPortal: "h:1", iqn: "iqn.2026-11.example:d", lun: 1, chapAuthSession: true}}]}`,
		`{containers: [{name: c, image: i}], volumes: [{name: v, nfs: {server: h, path: x}}]}`,
		`{containers: [{name: c, image: i}], volumes: [{name: v, image: {reference: ""}}]}`,
		`{containers: [{name: c, image: i}], volumes: [{name: v, csi: {driver: D_}}]}`,
		`{containers: [{name: c, image: i}], ephemeralContainers: [{name: e, image: i}]}`,
		`{containers: [{name: c, image: i, resizePolicy: [{resourceName: cpu, restartPolicy: Sometimes}]}]}`,
		`{containers: [{name: c, image: i, resizePolicy: [{resourceName: cpu, restartPolicy: RestartContainer}]}], restartPolicy: Never}`,
		`{containers: [{name: c, image: i}], initContainers: [{name: d, image: i, resizePolicy: [{resourceName: cpu, restartPolicy: RestartContainer}]}]}`,
		`{containers: [{name: c, image: i}], securityContext: {runAsUser: -1}}`,
		`{containers: [{name: c, image: i}], initContainers: [{name: c, image: i}]}`,
		`{containers: [{name: c, image: i}], initContainers: [{name: d, image: i, livenessProbe: {exec: {command: [x]}}}]}`,
	} {
		all = append(all, testCase{name: fmt.Sprintf("invalid %d: %s", i, spec), manifest: fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: %s\n", spec)})
	}
	return all
}
