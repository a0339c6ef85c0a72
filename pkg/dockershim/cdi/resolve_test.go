package cdi

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

const twoDevices = `cdiVersion: 0.6.0
kind: v.com/gpu
containerEdits: {env: [ALL=1]}
devices:
- {name: a, containerEdits: {env: [A=%[1]s]}}
- {name: b, containerEdits: {env: [B=%[1]s]}}
`

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// envs lists the environments that Resolve returned.
func envs(all []Edits) string {
	var out []string
	for _, e := range all {
		out = append(out, strings.TrimPrefix(e.Device, "v.com/gpu=")+":"+strings.Join(e.Env, ","))
	}
	return strings.Join(out, " ")
}

func TestResolve(t *testing.T) {
	for _, tc := range []struct {
		name  string
		files func(t *testing.T, static, dynamic string)
		ask   string
		want  string
		code  codes.Code
		says  string
	}{
		{name: "what a file wants for all its devices stands once and first", ask: "b a", want: "b:ALL=1 b:B=1 a:A=1",
			files: func(t *testing.T, static, _ string) { write(t, static, "f.yaml", fmt.Sprintf(twoDevices, "1")) }},
		{name: "the later directory rules", ask: "a", want: "a:ALL=1 a:A=2",
			files: func(t *testing.T, static, dynamic string) {
				write(t, static, "f.yaml", fmt.Sprintf(twoDevices, "1"))
				write(t, dynamic, "f.json", `{"cdiVersion":"0.6.0","kind":"v.com/gpu","containerEdits":{"env":["ALL=1"]},"devices":[{"name":"a","containerEdits":{"env":["A=2"]}}]}`)
			}},
		{name: "two files of one directory define it: neither rules", ask: "a", code: codes.NotFound, says: "is in both",
			files: func(t *testing.T, static, _ string) {
				write(t, static, "f.yaml", fmt.Sprintf(twoDevices, "1"))
				write(t, static, "g.yaml", fmt.Sprintf(twoDevices, "2"))
			}},
		{name: "a link is followed", ask: "a", want: "a:ALL=1 a:A=1",
			files: func(t *testing.T, static, dynamic string) {
				target := write(t, static, "f.txt", fmt.Sprintf(twoDevices, "1"))
				if err := os.Symlink(target, filepath.Join(dynamic, "f.yaml")); err != nil {
					t.Fatal(err)
				}
			}},
		{name: "a broken file harms no other", ask: "a", want: "a:ALL=1 a:A=1",
			files: func(t *testing.T, static, _ string) {
				write(t, static, "e.yaml", "kind: [")
				write(t, static, "f.yaml", fmt.Sprintf(twoDevices, "1"))
			}},
		{name: "an unknown device", ask: "c", code: codes.NotFound, says: "unresolvable CDI devices v.com/gpu=c",
			files: func(t *testing.T, static, _ string) { write(t, static, "f.yaml", fmt.Sprintf(twoDevices, "1")) }},
		{name: "no files", ask: "a", code: codes.NotFound, says: "no file in ", files: func(*testing.T, string, string) {}},
		{name: "an unknown field", ask: "a", code: codes.NotFound, says: "field surprise not found",
			files: func(t *testing.T, static, _ string) {
				write(t, static, "f.yaml", fmt.Sprintf(twoDevices, "1")+"surprise: 1\n")
			}},
		{name: "an unknown version", ask: "a", code: codes.NotFound, says: "invalid version",
			files: func(t *testing.T, static, _ string) {
				write(t, static, "f.yaml", strings.Replace(fmt.Sprintf(twoDevices, "1"), "0.6.0", "9.0.0", 1))
			}},
		{name: "a device that changes nothing", ask: "a", code: codes.NotFound, says: "changes nothing",
			files: func(t *testing.T, static, _ string) {
				write(t, static, "f.yaml", "cdiVersion: 0.6.0\nkind: v.com/gpu\ndevices: [{name: a, containerEdits: {}}]\n")
			}},
		{name: "entries that are nothing", ask: "a", code: codes.NotFound, says: "(nil) mount", // and harm no other file
			files: func(t *testing.T, static, _ string) {
				for i, edit := range []string{"mounts", "deviceNodes", "hooks", "netDevices"} {
					bad := "{" + edit + ": [null]}"
					write(t, static, fmt.Sprint(i)+"-all.yaml", "cdiVersion: 0.3.0\nkind: v.com/gpu\ncontainerEdits: "+bad+"\ndevices: [{name: a, containerEdits: {env: [A=1]}}]\n")
					write(t, static, fmt.Sprint(i)+".yaml", "cdiVersion: 0.3.0\nkind: v.com/gpu\ndevices: [{name: a, containerEdits: "+bad+"}]\n")
				}
				write(t, static, "9.yaml", "cdiVersion: 0.3.0\nkind: v.com/gpu\ndevices: [null]\n")
			}},
		{name: "a file that unfolds to much more", ask: "a", code: codes.NotFound, says: "excessive aliasing",
			files: func(t *testing.T, static, _ string) {
				text := "cdiVersion: 0.6.0\nkind: v.com/gpu\ncontainerEdits: {env: &e [" + strings.Repeat("A=1, ", 3000) + "]}\ndevices:\n- {name: a, containerEdits: {env: [A=1]}}\n"
				for i := range 3000 {
					text += fmt.Sprintf("- {name: b%d, containerEdits: {env: *e}}\n", i)
				}
				write(t, static, "f.yaml", text)
			}},
		{name: "an endless file", ask: "a", code: codes.NotFound, says: "too large",
			files: func(t *testing.T, static, _ string) {
				write(t, static, "f.yaml", fmt.Sprintf(twoDevices, "1")+string(bytes.Repeat([]byte("#\n"), maxFile/2)))
			}},
		{name: "a pipe is not waited for", ask: "a", code: codes.NotFound, says: "not a regular file",
			files: func(t *testing.T, static, _ string) {
				if err := unix.Mkfifo(filepath.Join(static, "f.yaml"), 0o600); err != nil {
					t.Fatal(err)
				}
			}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			static, dynamic := t.TempDir(), t.TempDir()
			tc.files(t, static, dynamic)
			var names []string
			for n := range strings.FieldsSeq(tc.ask) {
				names = append(names, "v.com/gpu="+n)
			}
			got, err := Resolve([]string{static, dynamic, filepath.Join(static, "missing")}, names)
			if grpccode.Of(err) != tc.code || err == nil && envs(got) != tc.want || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %s and %v, want %s and %v %q", envs(got), err, tc.want, tc.code, tc.says)
			}
		})
	}
}
