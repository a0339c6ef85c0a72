package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// repeated is a text of about size bytes: head, and then what each gives, again and again.
func repeated(size int, head string, each func(i int) string) string {
	var b strings.Builder
	b.WriteString(head)
	for i := 0; b.Len() < size; i++ {
		b.WriteString(each(i))
	}
	return b.String()
}

func always(text string) func(int) string { return func(int) string { return text } }

// hostile are manifests of about size bytes that are large in one respect each.
func hostile(size int) map[string]string {
	const (
		pod    = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n"
		labels = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  labels:\n"
		list   = "apiVersion: v1\nkind: PodList\nitems:\n"
	)
	laughs := pod + "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for i := 1; i < 30; i++ {
		laughs += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 10), ","))
	}
	count := size / 10
	return map[string]string{
		"aliases of aliases":      laughs,
		"deep flow":               "a: " + strings.Repeat("[", size/2),
		"deep JSON":               `{"apiVersion":"v1","kind":"Pod","a":` + strings.Repeat("[", size/2),
		"deep JSON that is whole": `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"a":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "}",
		"deep block":              "apiVersion: v1\nkind: Pod\n" + strings.Repeat("? ", count),
		"separators":              strings.Repeat("---\n", size/4),
		"documents":               strings.Repeat("--- a\n", size/6),
		"pods":                    strings.Repeat("---\n"+pod, size/60),
		"containers":              repeated(size, pod+"spec:\n  containers:\n", func(i int) string { return fmt.Sprintf("  - {name: c%d, image: x}\n", i) }),
		"the same container":      repeated(size, pod+"spec:\n  containers:\n", always("  - {name: c, image: x}\n")),
		"volumes":                 repeated(size, pod+"spec:\n  containers: [{name: c, image: x}]\n  volumes:\n", always("  - {name: v, hostPath: {path: x}}\n")),
		"mounts":                  repeated(size, pod+"spec:\n  containers:\n  - name: c\n    volumeMounts:\n", always("    - {name: v, mountPath: /x}\n")),
		"environment":             repeated(size, pod+"spec:\n  containers:\n  - name: c\n    env:\n", func(i int) string { return fmt.Sprintf("    - {name: =%d}\n", i) }),
		"ports":                   repeated(size, pod+"spec:\n  containers:\n  - name: c\n    ports:\n", always("    - {containerPort: 0, name: x, hostPort: 1}\n")),
		"tolerations":             repeated(size, pod+"spec:\n  containers: [{name: c, image: x}]\n  tolerations:\n", always("  - {operator: x}\n")),
		"list": repeated(size, list, func(i int) string {
			return fmt.Sprintf("- {metadata: {name: p%d}, spec: {containers: [{name: c, image: x}]}}\n", i)
		}),
		"list of unknown fields": repeated(size, list, func(i int) string {
			return fmt.Sprintf("- {metadata: {name: p%d}, spec: {cont: [{name: c, image: x}]}}\n", i)
		}),
		"labels":                  repeated(size, labels, func(i int) string { return fmt.Sprintf("    k%d: v\n", i) }),
		"bad labels":              repeated(size, labels, func(i int) string { return fmt.Sprintf("    =%d: v\n", i) }),
		"unknown fields":          repeated(size, pod, func(i int) string { return fmt.Sprintf("k%d: v\n", i) }),
		"unknown fields of JSON":  repeated(size, `{"apiVersion":"v1","kind":"Pod"`, func(i int) string { return fmt.Sprintf(`,"k%d":1`, i) }) + "}",
		"duplicate keys":          repeated(size, labels, always("    k: v\n")),
		"duplicate keys of JSON":  repeated(size, `{"apiVersion":"v1","kind":"Pod"`, always(`,"kind":"Pod"`)) + "}",
		"merges":                  repeated(size, pod+"a: &a {x: 1, y: 2}\nb:\n", always("- {<<: *a, x: 1}\n")),
		"merges after their keys": repeated(size, pod+"a: &a {x: 1, y: 2}\nb:\n", always("- {x: 1, <<: *a}\n")),
		"bad keys of a Secret":    repeated(size, document("Secret", "s", "stringData:"), func(i int) string { return fmt.Sprintf("  a/%d: x\n", i) }),
		"numbers in a ConfigMap":  repeated(size, document("ConfigMap", "m", "data:"), func(i int) string { return fmt.Sprintf("  a%d: 1\n", i) }),
		"long name":               "apiVersion: v1\nkind: Pod\nmetadata: {name: " + strings.Repeat("x", size) + "}\n",
		"long key":                pod + strings.Repeat("x", 1000) + ": 1\n",
		"long path":               pod + "spec:\n  " + strings.Repeat("a[0].", 100) + ": 1\n",
		"JSON stream":             strings.Repeat(`{"apiVersion":"v1","kind":"Pod"}`, size/32),
		"quotes":                  "'" + strings.Repeat("'", size),
		"anchors":                 "a:\n" + strings.Repeat("- &a x\n- *a\n", size/13),
		"tabs":                    strings.Repeat("\t", size),
		"colons":                  strings.Repeat(": ", size/2),
		"tag":                     "a: " + strings.Repeat("!", size),
	}
}

// A manifest may take ten megabytes. Reading it takes time in proportion to its size, whatever it
// holds: eight times the text, and not sixty-four times the work.
func TestReadingTakesTimeInProportionToTheText(t *testing.T) {
	if testing.Short() {
		t.Skip("uses some seconds of a core")
	}
	const size, times = 12 << 10, 8
	took := func(text string) time.Duration {
		start := cpu()
		Problems(standalone.Read([]byte(text)), "file", "/m")
		return cpu() - start
	}
	small, large := hostile(size), hostile(times*size)
	for _, name := range slices.Sorted(maps.Keys(small)) {
		growth, tries := 0.0, 3 // other work of the process is measured as well
		for ; tries > 0; tries-- {
			took(small[name])
			growth = float64(took(large[name])) / float64(max(took(small[name]), 5*time.Millisecond))
			if growth < 3*times {
				break
			}
		}
		if tries == 0 {
			t.Errorf("%s: %d times the text takes %.0f times as long", name, times, growth)
		}
	}
}

func TestSplittingTakesTimeInProportionToTheText(t *testing.T) {
	took := func(n int) time.Duration {
		text := []byte(strings.Repeat(`{"a":1}`+"\n", n))
		start := cpu()
		if got := len(split(text)); got != n {
			t.Errorf("%d documents, want %d", got, n)
		}
		return cpu() - start
	}
	var a, b time.Duration
	for range 3 { // other work of the process, and of a virtual machine's host, is measured as well
		if a, b = took(1<<14), took(1<<17); b <= 40*max(a, 20*time.Millisecond) {
			return
		}
	}
	t.Errorf("eight times the text takes %v instead of %v", b, a)
}

func TestProblemsAreBounded(t *testing.T) {
	const lists = "apiVersion: v1\nkind: PodList\nitems:\n"
	unknown := repeated(2000, podManifest("p"), func(i int) string { return fmt.Sprintf("k%d: 1\n", i) })
	for name, tt := range map[string]struct {
		text           string
		docs, problems int
		last           string
	}{
		"a hundred":      {podManifest("p") + repeatedLines(100), 1, 100, "/m: document 1 (line 108): k99: unknown field"},
		"a document":     {podManifest("p") + repeatedLines(105), 1, 101, "/m: document 1: and 5 more problems"},
		"duplicate keys": {document("ConfigMap", "m", "data:") + strings.Repeat("  k: v\n", 251), 1, 101, "/m: document 1: and 150 more problems"},
		"validation":     {podManifest("p") + "    ports:\n" + strings.Repeat("    - {containerPort: 0}\n", 300), 1, 101, "/m: document 1: and 200 more problems"},
		"a list":         {lists + strings.Repeat("- {a: 1}\n", 150), 150, 101, "/m: document 1: and 50 more problems"},
		"a manifest":     {strings.Repeat("---\na: 1\n", 1500), 1500, 1001, "/m: and 500 problems in 500 more documents"},
		"both":           {strings.Repeat("---\n"+unknown, 12), 12, 1011, ""},
		"documents":      {strings.Repeat("---\na: 1\n", maxDocuments+9), maxDocuments + 1, 1001, fmt.Sprintf("/m: and %d problems in %d more documents", maxDocuments+1-1000, maxDocuments+1-1000)},
		"items":          {lists + strings.Repeat("- {}\n", maxDocuments+9) + "---\na: 1\n", maxDocuments + 2, 102, ""},
		"a long name":    {strings.Replace(podManifest("p"), "name: p", "name: "+strings.Repeat("é", 1<<20), 1), 1, 2, ""},
		"a long key":     {podManifest("p") + strings.Repeat("k", 1000) + ": 1\n", 1, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			docs := standalone.Read([]byte(tt.text))
			problems := Problems(docs, "file", "/m")
			if len(docs) != tt.docs || len(problems) != tt.problems {
				t.Fatalf("%d documents with %d problems, want %d and %d; the last: %v", len(docs), len(problems), tt.docs, tt.problems, problems[len(problems)-1])
			}
			for _, p := range problems {
				if len(p.Error()) > maxField+maxMessage+100 {
					t.Errorf("a problem of %d bytes", len(p.Error()))
				}
			}
			if last := problems[len(problems)-1].Error(); tt.last != "" && last != tt.last {
				t.Errorf("the last is %q, want %q", last, tt.last)
			}
			for _, d := range docs {
				if !d.Failed() {
					t.Errorf("a document with problems counts: %v", d.name)
				}
			}
		})
	}
}

func repeatedLines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "k%d: 1\n", i)
	}
	return b.String()
}

// What is beyond the bound is as if its document had failed: what it gave before stays.
func TestWhatIsBeyondTheBoundOfDocumentsStays(t *testing.T) {
	text := "apiVersion: v1\nkind: ConfigMapList\nitems:\n"
	var b strings.Builder
	b.WriteString(text)
	for i := range maxDocuments + 1 {
		fmt.Fprintf(&b, "- {metadata: {name: m%d}}\n", i)
	}
	before := KeepFailed(Content{}, standalone.Read([]byte(document("ConfigMap", fmt.Sprint("m", maxDocuments)))), node)
	docs := standalone.Read([]byte(b.String()))
	now := KeepFailed(before, docs, node)
	if len(now.Objects) != maxDocuments+1 {
		t.Errorf("%d objects", len(now.Objects))
	}
	if p := Problems(docs, "file", "/m"); len(p) != 1 || p[0].Line != maxDocuments+4 {
		t.Errorf("problems %v", p)
	}
}

// cpu is what the process has used of the processors.
func cpu() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
