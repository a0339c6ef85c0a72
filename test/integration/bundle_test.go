package integration

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/browser"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestABundleReplaysEqual: what a node has decided comes out the same from its bundle, which holds no secret. A decision that
// is another than the recorded one is told.
func TestABundleReplaysEqual(t *testing.T) {
	a := start(t)
	a.WriteText("login.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: login}\nstringData: {password: hunter2}\n")
	a.Write("web.yaml", harness.Pod("web", "exec sleep 1000 # hunter2-argument", func(p *v1.Pod) {
		p.Annotations = map[string]string{"note": "hunter2-annotation"}
		p.Spec.Containers[0].Env = []v1.EnvVar{{Name: "LITERAL", Value: "hunter2-literal"}, {Name: "PASSWORD", ValueFrom: &v1.EnvVarSource{
			SecretKeyRef: &v1.SecretKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "login"}, Key: "password"},
		}}}
	}))
	a.Write("crash.yaml", harness.Pod("crash", "exit 1"))
	a.WaitRunning("web")
	a.WaitPod("crash", "is in CrashLoopBackOff", func(p *v1.Pod) bool { return backsOff(p, "10s") })
	path := filepath.Join(t.TempDir(), "x.mkb")
	if r := look(t, a, "", "bundle", "-o", path); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	parts := unpack(t, path)
	for name, text := range parts {
		for _, leak := range harness.Leaks(text) {
			t.Errorf("%s has the secret %s", name, leak)
		}
	}
	if text := string(parts["decisions.ndjson"]); !strings.Contains(text, `"function":"computeActions"`) || !strings.Contains(text, `"function":"decide"`) || !strings.Contains(text, `"name":"LITERAL"`) {
		t.Errorf("the decisions are %.2000s", text)
	}
	if len(parts) != 4 || !strings.Contains(string(parts["journal.ndjson"]), `"kind":"plan"`) || !strings.Contains(string(parts["configz.json"]), a.Manifests) {
		t.Errorf("%d parts", len(parts))
	}
	if text := string(parts["versions.json"]); !regexp.MustCompile(`"miniKubelet":".+","kubernetes":"v1\..+","go":"go1\..+","platform":"linux/.+","kernel":".+","runtime":"docker://.+","written":"2`).MatchString(text) {
		t.Errorf("the versions are %s", text)
	}
	out, stderr, err := a.Run("replay", path)
	if err != nil || stderr != "" || !regexp.MustCompile(`^[1-9]\d* decisions, 0 come out differently\n$`).MatchString(out) {
		t.Errorf("%q, %q, %v", out, stderr, err)
	}
	a.Kill() // nothing of it is needed any more
	pageShowsABundle(t, path)
	parts["versions.json"] = regexp.MustCompile(`"miniKubelet":"[^"]*"`).ReplaceAll(parts["versions.json"], []byte(`"miniKubelet":"v0.0.1"`))
	parts["decisions.ndjson"] = bytes.Replace(parts["decisions.ndjson"], []byte(`"state":"exited"`), []byte(`"state":"running"`), 1)
	out, stderr, err = a.Run("replay", repack(t, parts))
	if err == nil || !regexp.MustCompile(`(?m)^#\d+ [\d:]+ computeActions crash\S*: recorded ".*", now ".*"$`).MatchString(out) || !strings.HasSuffix(out, " 1 come out differently\n") {
		t.Errorf("with another state: %q, %v", out, err)
	}
	if !strings.HasPrefix(stderr, "the bundle is of mini-kubelet v0.0.1 (Kubernetes v1.") {
		t.Errorf("with another version: %q", stderr)
	}
}

// pageShowsABundle opens a bundle in a browser, without an agent, and then what is none.
func pageShowsABundle(t *testing.T, path string) {
	p := browser.Open(t)
	p.Go(serveUIOf(t, path))
	p.Wait("the bundle is shown", `document.getElementById('link').dataset.state === 'file' && /^x\.mkb of mini-kubelet .+, without an agent$/.test(document.getElementById('link').innerText)`)
	p.Wait("its pods are there", row("web")+`?.dataset.status === 'Running' && `+row("crash"))
	p.Eval(row("web")+`.click()`, nil)
	// Until the next picture it is that of the pod that was chosen before.
	p.Wait("what was decided of the pod is shown", `madeDrawn.startsWith(`+row("web")+`.dataset.uid + '/') && [...document.querySelectorAll('#made summary')].some(el => /computeActions → .*\bc\b/.test(el.innerText))`)
	p.Eval(`document.querySelectorAll('#made summary').forEach(el => el.click())`, nil)
	p.Wait("with what it was decided from", `[...document.querySelectorAll('#made pre')].some(el => el.innerText.includes('"name": "LITERAL"'))`)
	var text string
	p.Eval(`document.documentElement.outerHTML`, &text)
	for _, leak := range harness.Leaks([]byte(text)) {
		t.Errorf("the page has the secret %s", leak)
	}
	whole, other := contentOf(t, path), unpack(t, path)
	other["versions.json"] = []byte(`{"bundle": 2}`)
	hostile := unpack(t, path)
	hostile["decisions.ndjson"] = []byte(`{"seq":1,"time":"2026-01-02T03:04:05Z","function":"<img src=x onerror=document.title='owned'>","uid":"u","output":"\u202e","input":{"__proto__":"<script>document.title='owned'</script>\u202e"}}` +
		"\n{}\nnull\n[]\n" + `{"uid":{},"time":7}` + "\n")
	hostile["journal.ndjson"] = []byte(`{"seq":1,"time":"2026-01-02T03:04:05Z","kind":"status","uid":"u","pod":"x","reason":"Running"}` + "\n")
	for _, tt := range []struct {
		name, says string
		content    []byte
	}{
		{"half.mkb", "is no bundle", whole[:len(whole)/2]},
		{"magic.mkb", "is no bundle", []byte("\x1f\x8bno")},
		{"huge.mkb", "is larger than 128 MiB", zipped(t, make([]byte, 129<<20))},
		{"ones.mkb", "is no bundle", zipped(t, bytes.Repeat([]byte{'1'}, 4096))},
		{"other.mkb", "is a bundle of another format", contentOf(t, repack(t, other))},
		{"hostile.mkb", "of mini-kubelet", contentOf(t, repack(t, hostile))},
	} {
		drop(p, tt.name, tt.content)
		p.Wait(tt.name+" "+tt.says, fmt.Sprintf(`document.getElementById('link').innerText.startsWith(%q)`, tt.name+" "+tt.says))
	}
	p.Eval(`document.querySelector('[data-uid=u]').click()`, nil)
	p.Wait("what is hostile is text", `document.querySelector('#made summary')?.innerText.includes('<img src=x')`)
	p.Eval(`document.querySelector('#made summary').click()`, nil)
	p.Wait("also what it was decided from", `document.querySelector('#made pre')?.innerText.includes('<script>')`)
	var bad bool
	if p.Eval(`document.title === 'owned' || document.querySelectorAll('img, #made script').length > 0 || document.getElementById('made').innerText.includes('\u202e')`, &bad); bad {
		t.Error("a bundle makes elements, or turns text round")
	}
	if e := p.Errors(); len(e) > 0 {
		t.Errorf("the page complains:\n%s", strings.Join(e, "\n"))
	}
}

func zipped(t *testing.T, content []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func contentOf(t *testing.T, path string) []byte {
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func unpack(t *testing.T, path string) map[string][]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string][]byte{}
	for archive := tar.NewReader(unzipped); ; {
		h, err := archive.Next()
		if err == io.EOF {
			return parts
		}
		if err != nil {
			t.Fatal(err)
		}
		if parts[h.Name], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
	}
}

func repack(t *testing.T, parts map[string][]byte) (path string) {
	t.Helper()
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	archive := tar.NewWriter(zip)
	for name, text := range parts {
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "mutated.mkb")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
