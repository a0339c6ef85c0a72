package integration

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/imagetar"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// exchangeImage puts an image of test/exchange into the agent's Docker.
func exchangeImage(t *testing.T, a *harness.Agent) string {
	t.Helper()
	const ref = "test.local/exchange:1"
	program := filepath.Join(t.TempDir(), "exchange")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/mini-kubelet/mini-kubelet/test/exchange")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build test/exchange: %v\n%s", err, text)
	}
	file, err := imagetar.HostFile("exchange", 0o755, program)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := imagetar.Load(t.Context(), a.Docker.Client, imagetar.Image{Refs: []string{ref}, Files: []imagetar.File{file}}); err != nil {
		t.Fatal(err)
	}
	return ref
}

// treeOf returns owner, mode and content of each file in a directory.
func treeOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		var content []byte
		if fi.Mode().IsRegular() {
			if content, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		all[path] = fmt.Sprintf("%v %d:%d %q", fi.Mode(), st.Uid, st.Gid, content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// One pod has a volume and exchanges a directory in it for a link to a directory of the
// host, as fast as it can, while others with an fsGroup come and go with the same volume
// and with parts of it: nothing of the host's is given away, made or shown.
func TestAPodCannotLeadTheAgentOutOfASharedVolume(t *testing.T) {
	a := start(t)
	host, shared := t.TempDir(), t.TempDir()
	for i := range 200 {
		for path, mode := range map[string]fs.FileMode{
			filepath.Join(host, fmt.Sprint("f", i)): 0o600, filepath.Join(host, "only", fmt.Sprint("h", i)): 0o600,
			filepath.Join(shared, "d", fmt.Sprint("f", i)): 0o600,
			filepath.Join(host, "part", "secret"):          0o600, filepath.Join(shared, "d", "part", "own"): 0o600,
		} {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(path), mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Symlink(host, filepath.Join(shared, "link")); err != nil {
		t.Fatal(err)
	}
	before := treeOf(t, host)
	image := exchangeImage(t, a)
	// A volume each, all of the same directory: of one volume only the first pod would change the group.
	const victims = 8
	for n := range victims + 1 {
		a.WriteText(fmt.Sprintf("claim-%d.yaml", n), claimFor(fmt.Sprint("data-", n)))
		a.WriteText(fmt.Sprintf("volume-%d.yaml", n), persistentVolume(fmt.Sprint("shared-", n), "1Gi", shared))
	}
	hostile := usesClaim("hostile", fmt.Sprint("data-", victims))
	hostile.Spec.Containers[0].Image, hostile.Spec.Containers[0].Command = image, []string{"/exchange", "/data/d", "/data/link"}
	// Half a CPU: the kernel's lock of renames holds up everybody else's look-ups.
	hostile.Spec.Containers[0].Resources.Limits = v1.ResourceList{v1.ResourceCPU: resource.MustParse("500m")}
	a.Write("hostile.yaml", hostile)
	a.WaitRunning("hostile")

	const gid, waves = 4242, 2
	for wave := range waves {
		var pods []*v1.Pod
		for n := range victims {
			p := usesClaim(fmt.Sprintf("victim-%d-%d", wave, n), fmt.Sprint("data-", n))
			p.Spec.RestartPolicy = v1.RestartPolicyNever
			p.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: ptr.To[int64](gid)}
			c := &p.Spec.Containers[0]
			switch n % 3 {
			case 0:
				c.Command = []string{"/bin/true"}
			case 1:
				c.VolumeMounts[0].SubPath = "d/part"
				c.Command = []string{"/bin/sh", "-c", "test ! -e /data/secret"}
			case 2:
				c.VolumeMounts[0].SubPath = fmt.Sprintf("d/made-%d-%d/below", wave, n)
				c.Command = []string{"/bin/touch", "/data/touched"}
			}
			pods = append(pods, p)
		}
		a.Write("victims.yaml", pods...)
		for n, p := range pods {
			done := a.WaitPod(p.Name, "succeeded, or found the link", func(p *v1.Pod) bool {
				s := harness.Status(p, "c")
				return p.Status.Phase == v1.PodSucceeded || p.Status.Phase == v1.PodFailed ||
					n%3 > 0 && s.State.Waiting != nil && strings.Contains(s.State.Waiting.Message, "leads out of the volume")
			})
			if done.Status.Phase == v1.PodFailed {
				t.Errorf("pod %s failed: %+v", p.Name, done.Status.ContainerStatuses)
			}
		}
		a.Remove("victims.yaml")
		for _, p := range pods {
			a.WaitGone(p.Name)
		}
	}
	if p := a.WaitRunning("hostile"); harness.Status(p, "c").RestartCount > 0 {
		t.Error("the hostile pod did not exchange all the time")
	}
	a.Remove("hostile.yaml")
	a.WaitGone("hostile")
	given := 0
	for _, s := range treeOf(t, shared) {
		if strings.Contains(s, fmt.Sprintf(":%d ", gid)) {
			given++
		}
	}
	if given < 200 {
		t.Errorf("%d files of the volume have the group, want all", given)
	}
	after := treeOf(t, host)
	changed := 0
	for path, was := range before {
		if after[path] != was {
			if changed++; changed <= 5 {
				t.Errorf("%s was %s and is %s", path, was, after[path])
			}
		}
	}
	if changed > 0 {
		t.Errorf("%d of %d files of the host were changed", changed, len(before))
	}
	for path := range after {
		if before[path] == "" {
			t.Errorf("%s of the host was made", path)
		}
	}
}
