package integration

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// damageState damages every file of the agent's state in these directories, each in another way, and returns their
// paths. Marks of pods, whose names say all, have no content to damage.
func damageState(t *testing.T, a *harness.Agent, dirs ...string) []string {
	t.Helper()
	root := filepath.Join(a.Dir, "root")
	var all []string
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, e fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case !e.Type().IsRegular(), strings.Contains(path, ".damaged-"), filepath.Dir(path) == filepath.Join(root, "mini-kubelet/pods"),
				dir == "pods" && filepath.Base(filepath.Dir(path)) != "claims":
				return nil
			}
			all = append(all, path)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	all = append(all, filepath.Join(root, "cpu_manager_state")) // of which there is none
	ways := []func(string) error{
		func(p string) error { return os.WriteFile(p, nil, 0o600) },
		func(p string) error { return os.MkdirAll(filepath.Join(p, "full"), 0o700) },
		func(p string) error { return unix.Mkfifo(p, 0o600) },
		func(p string) error { return os.Symlink("/etc/hostname", p) },
	}
	for i, path := range all {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		way := ways[i%len(ways)]
		if filepath.Base(path) == "events.jsonl" { // of which any text is a beginning
			way = ways[1+i%(len(ways)-1)]
		}
		if err := way(path); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestDamagedStateStopsNothing: with every file of its state damaged an agent starts, its pods
// go on as they are, and all that is damaged is moved aside and told. A reset of a node with
// such state removes what is the agent's.
func TestDamagedStateStopsNothing(t *testing.T) {
	a := start(t)
	data := t.TempDir()
	a.WriteText("volume.yaml", persistentVolume("large", "9Gi", data))
	a.WriteText("claim.yaml", claimFor("data"))
	a.Write("web.yaml", usesClaim("web", "data"), harness.Pod("plain", ""))
	before := map[string]string{}
	for _, name := range []string{"web", "plain"} {
		before[name] = harness.Status(a.WaitRunning(name), "c").ContainerID
	}
	waitContent(t, a, filepath.Join(data, "starts"), "web\n")
	// By the documents alone the claim would get the small one from now on.
	a.Kill()
	a.WriteText("small.yaml", persistentVolume("small", "1Gi", t.TempDir()))
	goOn := func(files []string) {
		t.Helper()
		a.Start()
		for name, id := range before {
			if now := harness.Status(a.WaitRunning(name), "c").ContainerID; now != id {
				t.Errorf("%s has another container", name)
			}
		}
		for _, path := range files {
			if strings.Contains(path, "manifests-file/") { // read only if a manifest is bad; else written anew
				continue
			}
			waitLog(t, a, "damaged file", path)
			if moved, err := filepath.Glob(path + ".damaged-*"); err != nil || len(moved) == 0 {
				t.Errorf("%s was not moved aside", path)
			}
		}
	}
	goOn(damageState(t, a, "mini-kubelet", "image_manager"))
	waitContent(t, a, filepath.Join(a.Dir, "root", "mini-kubelet", "claims.json"), `{"default/data":"large"}`)
	a.Kill()
	if err := os.Remove(filepath.Join(a.Manifests, "small.yaml")); err != nil { // nothing else says now which it was
		t.Fatal(err)
	}
	files := damageState(t, a, "mini-kubelet", "image_manager", "pods")
	for _, want := range []string{"claims.json", "found.json", "/claims/data.json", "manifests-file/"} {
		if !strings.Contains(strings.Join(files, "\n"), want) {
			t.Errorf("no %s among the files of state %q", want, files)
		}
	}
	goOn(files)
	a.Kill()
	damageState(t, a, "mini-kubelet", "image_manager", "pods")
	reset(t, a)
	// The rest stays: without its record the agent cannot know that it was not there first.
	for _, name := range []string{"mini-kubelet*", "pods/*"} {
		if left, _ := filepath.Glob(filepath.Join(a.Dir, "root", name)); len(left) > 0 {
			t.Errorf("after the reset there is %q", left)
		}
	}
}

// TestFilesInPlaceOfDirectoriesStopNothing puts a file in the place of every directory that an agent
// keeps its state in: it starts and runs pods, and a reset of such a node works.
func TestFilesInPlaceOfDirectoriesStopNothing(t *testing.T) {
	t.Parallel()
	// Without their records nobody may use images that are present.
	a := harness.StartAgent(t, harness.AgentConfig{Config: map[string]any{"imagePullCredentialsVerificationPolicy": "NeverVerify"}})
	a.Write("web.yaml", harness.Pod("web", ""))
	a.WaitRunning("web")
	// Those below others first: in the second round there is nothing for them to be in.
	for _, patterns := range [][]string{{"root/mini-kubelet/*", "shim/*"}, {"root/*"}} {
		var places []string
		for _, pattern := range patterns {
			found, err := filepath.Glob(filepath.Join(a.Dir, pattern))
			if err != nil {
				t.Fatal(err)
			}
			places = slices.AppendSeq(places, slices.Values(slices.DeleteFunc(found, func(path string) bool {
				fi, err := os.Lstat(path)
				return err != nil || !fi.IsDir()
			})))
		}
		if len(places) < 3 {
			t.Errorf("only %q are directories", places)
		}
		t.Logf("files in the place of %q", places)
		reset(t, a)
		putFiles(t, places)
		a.Start()
		a.WaitRunning("web")
		for _, path := range places {
			if fi, err := os.Lstat(path); err == nil && !fi.IsDir() {
				t.Errorf("%s is still a file", path)
			}
		}
		reset(t, a)
		putFiles(t, places)
		reset(t, a)
		if left, _ := filepath.Glob(filepath.Join(a.Dir, "shim", "*.damaged-*")); len(left) > 0 { // root had files before there was an agent
			t.Errorf("after the reset there is %q", left)
		}
		for _, path := range places {
			if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
		a.Start()
		a.WaitRunning("web")
	}
}

// reset kills the agent and removes all that it has made.
func reset(t *testing.T, a *harness.Agent) {
	t.Helper()
	a.Kill()
	if _, stderr, err := a.Run(append([]string{"reset", "--yes"}, a.Flags()...)...); err != nil {
		t.Errorf("reset: %v\n%s", err, stderr)
	}
	if left, err := a.Containers(); err != nil || len(left) > 0 {
		t.Errorf("containers after the reset: %v, %v", left, err)
	}
}

// putFiles puts a file in each place, where a directory was.
func putFiles(t *testing.T, places []string) {
	t.Helper()
	for _, path := range places {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("no directory"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
