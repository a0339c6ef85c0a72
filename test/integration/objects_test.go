package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// configMap is a manifest of a ConfigMap with one key.
func configMap(name, key, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: %s\ndata:\n  %s: %q\n", name, key, value)
}

// theSecret is a value that must not be found in any log.
const theSecret = "hunter2-correct-horse"

// usesObjects is a pod with a ConfigMap and a Secret as files and in its environment.
func usesObjects(name string) *v1.Pod {
	return harness.Pod(name, "", func(p *v1.Pod) {
		c := &p.Spec.Containers[0]
		p.Spec.Volumes = []v1.Volume{
			{Name: "settings", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: "settings"}}}},
			{Name: "login", VolumeSource: v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: "login"}}},
		}
		c.VolumeMounts = []v1.VolumeMount{{Name: "settings", MountPath: "/settings"}, {Name: "login", MountPath: "/login"}}
		c.EnvFrom = []v1.EnvFromSource{{ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "settings"}}}}
		c.Env = []v1.EnvVar{{Name: "PASSWORD", ValueFrom: &v1.EnvVarSource{SecretKeyRef: &v1.SecretKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "login"}, Key: "password"}}}}
	})
}

func loginSecret(password string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata:\n  name: login\nstringData:\n  password: %q\n", password)
}

// volumeFile is a file of the pod's volume as its containers see it.
func volumeFile(a *harness.Agent, pod *v1.Pod, plugin, volume, file string) string {
	return filepath.Join(a.Dir, "root", "pods", string(pod.UID), "volumes", "kubernetes.io~"+plugin, volume, file)
}

func waitContent(t *testing.T, a *harness.Agent, file, want string) {
	t.Helper()
	harness.Eventually(t, filepath.Base(file)+" says "+want, harness.Patience, func() error {
		got, err := os.ReadFile(file)
		if err == nil && string(got) != want {
			err = fmt.Errorf("it says %q", got)
		}
		return err
	}, a.Explain)
}

func waitLog(t *testing.T, a *harness.Agent, texts ...string) {
	t.Helper()
	harness.Eventually(t, fmt.Sprintf("a line of the log has %q", texts), harness.Patience, func() error {
		for line := range strings.Lines(a.Log()) {
			has := true
			for _, text := range texts {
				has = has && strings.Contains(line, text)
			}
			if has {
				return nil
			}
		}
		return os.ErrNotExist
	}, a.Explain)
}

func env(t *testing.T, a *harness.Agent, pod *v1.Pod) string {
	t.Helper()
	info, err := a.Docker.Client.ContainerInspect(t.Context(), harness.ID(harness.Status(pod, "c").ContainerID))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(info.Config.Env, "\n")
}

func TestPodsUseConfigMapsAndSecretsOfManifests(t *testing.T) {
	a := start(t)
	a.Write("a-pod.yaml", usesObjects("web"))
	a.WaitPod("web", "waits for its objects", func(p *v1.Pod) bool { return harness.Status(p, "c").State.Waiting != nil })
	waitLog(t, a, `MountVolume.SetUp failed for volume "settings" : configmap "settings" not found`)
	a.WriteText("settings.yaml", configMap("settings", "COLOUR", "green"))
	a.WriteText("login.yaml", loginSecret(theSecret))
	before := a.WaitRunning("web")
	file := volumeFile(a, before, "configmap", "settings", "COLOUR")
	waitContent(t, a, file, "green")
	waitContent(t, a, volumeFile(a, before, "secret", "login", "password"), theSecret)
	if all := env(t, a, before); !strings.Contains(all, "COLOUR=green") || !strings.Contains(all, "PASSWORD="+theSecret) {
		t.Error("the container's environment has not the values of its objects")
	}

	// An edit reaches the files, and the environment when the container restarts.
	a.WriteText("settings.yaml", configMap("settings", "COLOUR", "blue"))
	waitContent(t, a, file, "blue")
	same := a.WaitRunning("web")
	if harness.Status(before, "c").ContainerID != harness.Status(same, "c").ContainerID {
		t.Error("the edit of a ConfigMap restarted the container")
	}
	if err := a.Docker.Client.ContainerKill(t.Context(), harness.ID(harness.Status(same, "c").ContainerID), "KILL"); err != nil {
		t.Fatal(err)
	}
	again := a.WaitPod("web", "has restarted its container", func(p *v1.Pod) bool {
		return harness.Ready(p) && harness.Status(p, "c").RestartCount == 1
	})
	if !strings.Contains(env(t, a, again), "COLOUR=blue") {
		t.Error("the restarted container has not the new environment")
	}

	// A bad edit keeps what there was, and says what is wrong without saying the secret.
	a.WriteText("login.yaml", strings.Replace(loginSecret("x"), `"x"`, `[`+theSecret+`]`, 1))
	waitLog(t, a, "login.yaml: document 1 (line 6): stringData[password]: ")
	a.WriteText("settings.yaml", configMap("settings", "COL/OUR", "red"))
	waitLog(t, a, "settings.yaml: document 1 (line 6): data[COL/OUR]: ")

	// Also when the agent starts beside it.
	a.Kill()
	a.Start()
	a.WriteText("marker.yaml", configMap("marker", "K", "seen"))
	a.Write("marker-pod.yaml", harness.Pod("marker", "", func(p *v1.Pod) {
		p.Spec.Containers[0].Env = []v1.EnvVar{{Name: "K", ValueFrom: &v1.EnvVarSource{ConfigMapKeyRef: &v1.ConfigMapKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "marker"}, Key: "K"}}}}
	}))
	a.WaitRunning("marker")
	waitContent(t, a, file, "blue")
	waitContent(t, a, volumeFile(a, before, "secret", "login", "password"), theSecret)
	if p := a.WaitRunning("web"); harness.Status(p, "c").ContainerID != harness.Status(again, "c").ContainerID {
		t.Error("the restart of the agent restarted the container")
	}

	// A removed object is gone, but its files stay where they are in use.
	a.Remove("settings.yaml")
	waitLog(t, a, "FailedMount", "it keeps the content it has")
	waitContent(t, a, file, "blue")
	if strings.Contains(a.Log(), theSecret) {
		t.Error("the log has the secret")
	}
	for _, kept := range harness.Files(filepath.Join(a.Dir, "root")) {
		if info, err := os.Lstat(kept); err == nil && strings.Contains(kept, "manifests-file") && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", kept, info.Mode())
		}
	}
}

func TestAMissingKeyIsTheKubeletsError(t *testing.T) {
	a := start(t)
	a.WriteText("settings.yaml", configMap("settings", "COLOUR", "green"))
	a.Write("web.yaml", harness.Pod("web", "", func(p *v1.Pod) {
		p.Spec.Containers[0].Env = []v1.EnvVar{{Name: "SIZE", ValueFrom: &v1.EnvVarSource{ConfigMapKeyRef: &v1.ConfigMapKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "settings"}, Key: "SIZE"}}}}
	}))
	const message = "couldn't find key SIZE in ConfigMap default/settings"
	a.WaitPod("web", "says which key is missing", func(p *v1.Pod) bool {
		w := harness.Status(p, "c").State.Waiting
		return w != nil && w.Reason == "CreateContainerConfigError" && w.Message == message
	})
	a.WriteText("settings.yaml", configMap("settings", "SIZE", "XL"))
	if p := a.WaitRunning("web"); !strings.Contains(env(t, a, p), "SIZE=XL") {
		t.Error("the environment has not the key")
	}
}
