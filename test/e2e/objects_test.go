package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func TestConfigMapsAndSecrets(t *testing.T) {
	n, ns := join(t)
	n.MustKubectl(ns, "create", "configmap", "cm", "--from-literal=key=one", "--from-literal=other=same")
	n.MustKubectl(ns, "create", "secret", "generic", "s", "--from-literal=password=hidden")
	n.Create(ns, harness.Pod("p", `echo "$KEY $password"; sleep 1000`, quick, func(p *v1.Pod) {
		c := &p.Spec.Containers[0]
		c.Env = []v1.EnvVar{{Name: "KEY", ValueFrom: &v1.EnvVarSource{ConfigMapKeyRef: &v1.ConfigMapKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "cm"}, Key: "key"}}}}
		c.EnvFrom = []v1.EnvFromSource{{SecretRef: &v1.SecretEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "s"}}}}
		c.VolumeMounts = []v1.VolumeMount{{Name: "cm", MountPath: "/cm"}, {Name: "s", MountPath: "/s"}}
		p.Spec.Volumes = []v1.Volume{
			{Name: "cm", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: "cm"}}}},
			{Name: "s", VolumeSource: v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: "s", DefaultMode: ptr.To[int32](0o400)}}},
		}
	}))
	n.AwaitReady(ns, "p")
	n.AwaitLog(ns, "p", "one hidden\n")
	if out := n.MustKubectl(ns, "exec", "p", "--", "sh", "-c", "cat /cm/key /s/password; stat -c %a /s/..data/password; grep ' /s ' /proc/mounts"); !strings.HasPrefix(out, "onehidden400\n") || !strings.Contains(out, "tmpfs") {
		t.Errorf("volumes: %q", out)
	}
	// The pod's own token and the CA, in the form that every client library reads.
	if out := n.MustKubectl(ns, "exec", "p", "--", "ls", "/var/run/secrets/kubernetes.io/serviceaccount"); strings.Fields(out)[0] != "ca.crt" || len(strings.Fields(out)) != 3 {
		t.Errorf("service account: %q", out)
	}
	n.MustKubectl(ns, "patch", "configmap", "cm", "--type=merge", "-p", `{"data":{"key":"two"}}`)
	harness.Eventually(t, "the edit reaches the running pod", harness.Patience, func() error {
		if out := n.MustKubectl(ns, "exec", "p", "--", "cat", "/cm/key"); out != "two" {
			return errors.New(out)
		}
		return nil
	}, n.Explain)
}

func TestMissingObjectsAreTold(t *testing.T) {
	n, ns := join(t)
	n.Create(ns, harness.Pod("volume", "sleep 1000", quick, func(p *v1.Pod) {
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "cm", MountPath: "/cm"}}
		p.Spec.Volumes = []v1.Volume{{Name: "cm", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: "later"}}}}}
	}))
	n.Create(ns, harness.Pod("env", "sleep 1000", quick, func(p *v1.Pod) {
		p.Spec.Containers[0].Env = []v1.EnvVar{{Name: "KEY", ValueFrom: &v1.EnvVarSource{SecretKeyRef: &v1.SecretKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "later"}, Key: "key"}}}}
	}))
	n.Await(ns, "env", "says what is missing", func(p *v1.Pod) bool {
		w := harness.Status(p, "c").State.Waiting
		return w != nil && w.Reason == "CreateContainerConfigError" && strings.Contains(w.Message, `secret "later" not found`)
	})
	harness.Eventually(t, "an event names the volume and the cause", harness.Patience, func() error {
		out := n.MustKubectl(ns, "describe", "pod", "volume")
		if !strings.Contains(out, "FailedMount") || !strings.Contains(out, `configmap "later" not found`) {
			return errors.New(out)
		}
		return nil
	}, n.Explain)
	n.MustKubectl(ns, "create", "configmap", "later", "--from-literal=key=value")
	n.MustKubectl(ns, "create", "secret", "generic", "later", "--from-literal=key=value")
	n.AwaitReady(ns, "volume")
	n.AwaitReady(ns, "env")
}

// TestTokensAreBound asks the API server about the token that lies in a pod. When
// tokens are refreshed is tested in package podobjects: the shortest life that the
// API server grants is ten minutes.
func TestTokensAreBound(t *testing.T) {
	n, ns := join(t)
	n.Create(ns, harness.Pod("p", "sleep 1000", quick, func(p *v1.Pod) {
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "token", MountPath: "/token"}}
		p.Spec.Volumes = []v1.Volume{{Name: "token", VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{
			{ServiceAccountToken: &v1.ServiceAccountTokenProjection{Path: "token", Audience: "somebody", ExpirationSeconds: ptr.To[int64](600)}},
		}}}}}
	}))
	pod := n.AwaitReady(ns, "p")
	token := n.MustKubectl(ns, "exec", "p", "--", "cat", "/token/token")
	review := func() (bool, []string) {
		r, err := n.Cluster.Client.AuthenticationV1().TokenReviews().Create(t.Context(), tokenReview(token), metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return r.Status.Authenticated, r.Status.User.Extra["authentication.kubernetes.io/pod-uid"]
	}
	if ok, uid := review(); !ok || fmt.Sprint(uid) != fmt.Sprintf("[%s]", pod.UID) {
		t.Errorf("the token is valid: %v, of pod %v, want %s", ok, uid, pod.UID)
	}
	n.MustKubectl(ns, "delete", "pod", "p")
	harness.Eventually(t, "the token dies with its pod", harness.Patience, func() error {
		if ok, _ := review(); ok {
			return errors.New("it is still valid")
		}
		return nil
	})
}
