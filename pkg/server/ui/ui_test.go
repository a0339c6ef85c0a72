package ui

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal/gate"
	"github.com/mini-kubelet/mini-kubelet/pkg/server"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// agent is one whose journal says what it is told to.
type agent struct {
	away  error
	pods  []v1.Pod
	gates *gate.State // nil: not in teaching mode

	mu     sync.Mutex
	done   []server.TeachRequest
	asked  []string // last event IDs
	stream func(ctx context.Context) io.ReadCloser
}

func (a *agent) Journal(ctx context.Context, lastEventID string) (io.ReadCloser, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, lastEventID)
	if a.away != nil {
		return nil, a.away
	}
	return a.stream(ctx), nil
}

func (a *agent) Pods(context.Context) ([]v1.Pod, error) { return a.pods, a.away }

func (a *agent) Teach(_ context.Context, do *server.TeachRequest) (*gate.State, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if do != nil {
		a.done = append(a.done, *do)
	}
	return a.gates, a.away
}

// said is a journal that says something and then waits.
func said(text string) func(context.Context) io.ReadCloser {
	return func(ctx context.Context) io.ReadCloser {
		r, w := io.Pipe()
		go func() {
			_, _ = io.WriteString(w, text)
			<-ctx.Done()
			w.CloseWithError(ctx.Err())
		}()
		return r
	}
}

// serve returns the page's address and its token.
func serve(t *testing.T, a Agent, stall time.Duration) (base, token string) {
	t.Helper()
	s, err := New(Config{Agent: a, Stall: stall})
	if err != nil {
		t.Fatal(err)
	}
	testrun.Start(t, s.Run)
	u, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	token, u.Fragment = u.Fragment, ""
	return u.String(), token
}

func request(t *testing.T, method, url string, header http.Header) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if host := header.Get("Host"); host != "" {
		req.Host = host
	}
	return req
}

func do(t *testing.T, req *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// bearer has the token; more are names and values.
func bearer(token string, more ...string) http.Header {
	h := http.Header{"Authorization": {"Bearer " + token}}
	for i := 0; i < len(more); i += 2 {
		h.Set(more[i], more[i+1])
	}
	return h
}

func TestOnlyTheHolderOfTheTokenOnThisPageMayLook(t *testing.T) {
	base, token := serve(t, &agent{pods: []v1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "confidential", UID: "u"}}}}, 0)
	host := strings.TrimSuffix(strings.TrimPrefix(base, "http://"), "/")
	_, port, err := net.SplitHostPort(host)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, method, path string
		header             http.Header
		code               int
	}{
		{"the page needs no token", "GET", "", nil, 200},
		{"its head", "HEAD", "", nil, 200},
		{"data", "GET", "pods", bearer(token), 200},
		{"localhost", "GET", "pods", bearer(token, "Host", "localhost:"+port), 200},
		{"LOCALHOST", "GET", "pods", bearer(token, "Host", "LOCALHOST:"+port), 200},
		{"[::1]", "GET", "pods", bearer(token, "Host", "[::1]:"+port), 200},
		{"its own origin", "GET", "pods", bearer(token, "Origin", "http://"+host), 200},

		{"no token", "GET", "pods", nil, 401},
		{"an empty one", "GET", "pods", bearer(""), 401},
		{"a part of it", "GET", "pods", bearer(token[:len(token)-1]), 401},
		{"more than it", "GET", "pods", bearer(token + "A"), 401},
		{"another", "GET", "events", bearer(strings.Repeat("A", len(token))), 401},
		{"another scheme", "GET", "pods", http.Header{"Authorization": {"Basic " + token}}, 401},
		{"the token in the query", "GET", "pods?token=" + token, nil, 401},

		{"a name that leads here", "GET", "", http.Header{"Host": {"evil.example:" + port}}, 403},
		{"the same with the token", "GET", "pods", bearer(token, "Host", "evil.example:"+port), 403},
		{"another port", "GET", "pods", bearer(token, "Host", "127.0.0.1:1"), 403},
		{"no port", "GET", "pods", bearer(token, "Host", "127.0.0.1"), 403},
		{"another address of this machine", "GET", "pods", bearer(token, "Host", "127.0.0.2:"+port), 403},
		{"another origin", "GET", "pods", bearer(token, "Origin", "http://evil.example"), 403},
		{"an origin that begins so", "GET", "pods", bearer(token, "Origin", "http://"+host+".evil.example"), 403},
		{"another scheme of this host", "GET", "pods", bearer(token, "Origin", "https://"+host), 403},
		{"the origin of a file or sandbox", "GET", "pods", bearer(token, "Origin", "null"), 403},
		{"the page for another origin", "GET", "", http.Header{"Origin": {"http://evil.example"}}, 403},

		{"writing", "POST", "pods", bearer(token), 405},
		{"a preflight", "OPTIONS", "pods", bearer(token), 405},
		{"deleting", "DELETE", "events", bearer(token), 405},
		{"anything else", "GET", "metrics", bearer(token), 404},
		{"a way out", "GET", "..%2f..%2fetc%2fpasswd", bearer(token), 404},
	} {
		resp, body := do(t, request(t, tc.method, base+tc.path, tc.header))
		if resp.StatusCode != tc.code {
			t.Errorf("%s: %s, want %d", tc.name, resp.Status, tc.code)
		}
		if got := strings.Contains(body, "confidential"); got != (tc.code == 200 && tc.path == "pods") {
			t.Errorf("%s: what is hidden is shown: %v", tc.name, got)
		}
		if strings.Contains(body, token) {
			t.Errorf("%s: the answer has the token", tc.name)
		}
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin",
			"Cross-Origin-Opener-Policy": "same-origin", "Access-Control-Allow-Origin": "", "Access-Control-Allow-Headers": "",
		} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", tc.name, name, got, want)
			}
		}
		policy := regexp.MustCompile(`^default-src 'none'; script-src 'sha256-[A-Za-z0-9+/]{43}='; style-src 'sha256-[A-Za-z0-9+/]{43}='; connect-src 'self'; ` +
			`img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'$`)
		if got := resp.Header.Get("Content-Security-Policy"); !policy.MatchString(got) {
			t.Errorf("%s: policy %q", tc.name, got)
		}
	}
}

func TestTokensAreOfTheirOwnAndLong(t *testing.T) {
	a, b := newToken(), newToken()
	// 32 letters of base 32 have five bits each.
	if a == b || len(a) < 52 || regexp.MustCompile(`[^A-Z2-7]`).MatchString(a) {
		t.Errorf("tokens %q, %q", a, b)
	}
}

func TestOneListensOnLoopbackOnly(t *testing.T) {
	base, _ := serve(t, &agent{}, 0)
	if !strings.HasPrefix(base, "http://127.0.0.1:") {
		t.Errorf("it listens at %s", base)
	}
	s, err := New(Config{Agent: &agent{}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.listener.Close()
	port := s.listener.Addr().(*net.TCPAddr).Port
	if _, err := New(Config{Agent: &agent{}, Port: port}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("the same port again: %v", err)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a page of nobody")
	}
}

func TestTheJournalIsPassedOnFromWhereTheBrowserWas(t *testing.T) {
	a := &agent{stream: said("id: e-7\ndata: []\n\n")}
	base, token := serve(t, a, 0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	resp, err := http.DefaultClient.Do(request(t, "GET", base+"events", bearer(token, "Last-Event-ID", "e-6")).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got := make([]byte, len("id: e-7\ndata: []\n\n"))
	if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != "id: e-7\ndata: []\n\n" {
		t.Errorf("%q, %v", got, err)
	}
	if resp.Header.Get("Content-Type") != "text/event-stream" || !slices.Equal(a.asked, []string{"e-6"}) {
		t.Errorf("%s; asked for %q", resp.Header.Get("Content-Type"), a.asked)
	}
}

func TestABundleIsServedInPlaceOfAnAgent(t *testing.T) {
	base, token := serve(t, &Bundle{Name: "x\n\nevent: y.mkb", Content: []byte("\x1f\x8b...")}, 0)
	holder := http.Header{"Authorization": {"Bearer " + token}}
	if resp, body := do(t, request(t, "GET", base+"events", holder)); resp.StatusCode != http.StatusOK || body != "event: file\ndata: \"x\\n\\nevent: y.mkb\"\n\n" {
		t.Errorf("events: %d, %q", resp.StatusCode, body)
	}
	if resp, body := do(t, request(t, "GET", base+"bundle", holder)); resp.StatusCode != http.StatusOK || body != "\x1f\x8b..." {
		t.Errorf("bundle: %d, %q", resp.StatusCode, body)
	}
	if resp, body := do(t, request(t, "GET", base+"bundle", nil)); resp.StatusCode != http.StatusUnauthorized || strings.Contains(body, "\x1f") {
		t.Errorf("bundle without the token: %d, %q", resp.StatusCode, body)
	}
	if _, body := do(t, request(t, "GET", base+"pods", holder)); body != `{"away":"a bundle is shown, and no agent"}`+"\n" {
		t.Errorf("pods: %q", body)
	}
	base, token = serve(t, &agent{}, 0)
	if resp, _ := do(t, request(t, "GET", base+"bundle", http.Header{"Authorization": {"Bearer " + token}})); resp.StatusCode != http.StatusNotFound {
		t.Errorf("the bundle of an agent: %d", resp.StatusCode)
	}
}

func TestAnAgentThatIsAwayIsSaidSo(t *testing.T) {
	base, token := serve(t, &agent{away: errors.New(`no "agent" answers`)}, 0)
	if resp, body := do(t, request(t, "GET", base+"events", bearer(token))); resp.StatusCode != 200 || body != "event: away\ndata: \"no \\\"agent\\\" answers\"\n\n" {
		t.Errorf("events: %s %q", resp.Status, body)
	}
	if resp, body := do(t, request(t, "GET", base+"pods", bearer(token))); resp.StatusCode != 200 || body != `{"away":"no \"agent\" answers"}`+"\n" {
		t.Errorf("pods: %s %q", resp.Status, body)
	}
}

// flood says as much as anybody reads, and counts it.
type flood struct {
	ended chan struct{}
	once  sync.Once
}

func (f *flood) Read(p []byte) (int, error) { return len(p), nil }
func (f *flood) Close() error               { f.once.Do(func() { close(f.ended) }); return nil }

func TestABrowserThatReadsNothingIsCutOff(t *testing.T) {
	f := &flood{ended: make(chan struct{})}
	base, token := serve(t, &agent{stream: func(context.Context) io.ReadCloser { return f }}, 50*time.Millisecond)
	c, err := net.Dial("tcp", strings.Trim(strings.TrimPrefix(base, "http:"), "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := fmt.Fprintf(c, "GET /events HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", c.RemoteAddr(), token); err != nil {
		t.Fatal(err)
	}
	select {
	case <-f.ended:
	case <-time.After(testrun.Patience):
		t.Error("the server still waits for a browser that reads nothing")
	}
}

func TestAStreamEndsWithTheServer(t *testing.T) {
	a := &agent{stream: said("data: []\n\n")}
	s, err := New(Config{Agent: a})
	if err != nil {
		t.Fatal(err)
	}
	stop := testrun.Start(t, s.Run)
	u, _ := url.Parse(s.URL())
	resp, err := http.DefaultClient.Do(request(t, "GET", "http://"+u.Host+"/events", bearer(u.Fragment)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	stop()
	if text, _ := io.ReadAll(resp.Body); string(text) != "data: []\n\n" { // and does not go on
		t.Errorf("the browser got %q", text)
	}
}

func TestThePageIsSmallAndWhole(t *testing.T) {
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = z.Write(pageFile)
	z.Close()
	t.Logf("the page has %d bytes, %d of them with gzip", len(pageFile), packed.Len())
	if packed.Len() > 60<<10 {
		t.Errorf("the page has %d bytes with gzip, more than 60 KiB", packed.Len())
	}
	text := string(pageFile)
	for what, pattern := range map[string]string{
		"an inline handler":                                `<[a-z][^>]*\son[a-z]+=`,
		"a style that is not allowed":                      `<[a-z][^>]*\sstyle=`,
		"something from elsewhere":                         `(?:src|href)="(?:https?:)?//`,
		"text that becomes elements":                       `innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment`,
		"text that becomes a program":                      `\beval\(|new Function|setTimeout\(['"]`,
		"requests besides /bundle, /events, /pods, /teach": `fetch\((?:'(?:[^bept']|b[^u']|e[^v']|p[^o']|t[^e'])|[^'])`,
	} {
		if found := regexp.MustCompile(pattern).FindString(text); found != "" {
			t.Errorf("the page has %s: %s", what, found)
		}
	}
	for _, broken := range []string{"", "<style></style>", "<style></style><script></script><script></script>", "<style></style><script>"} {
		if _, err := newPage([]byte(broken)); err == nil {
			t.Errorf("the page %q is taken", broken)
		}
	}
}

// Each kind of event has its layer and the source file of its decision on the page.
func TestEachKindOfEventLeadsToItsSource(t *testing.T) {
	table := regexp.MustCompile(`(?m)^  (\w+): \['[^']+', '--[a-z]+', '([^']+)'\],$`)
	files := map[string]string{}
	for _, m := range table.FindAllStringSubmatch(string(pageFile), -1) {
		files[m[1]] = m[2]
		if _, err := os.Stat(filepath.Join("../../..", m[2])); err != nil {
			t.Errorf("%s: %v", m[1], err)
		}
	}
	for k := journal.Source; !strings.HasPrefix(k.String(), "kind "); k++ {
		if files[k.String()] == "" {
			t.Errorf("the page knows nothing of events of kind %s", k)
		}
		delete(files, k.String())
	}
	if delete(files, "restart"); len(files) > 0 {
		t.Errorf("the page has kinds that the journal does not: %v", files)
	}
}

func TestWhatIsShownOfAPodHasNoSecrets(t *testing.T) {
	const secret = "TOPSECRET"
	value := v1.EnvVar{Name: "PASSWORD", Value: secret}
	c := v1.Container{
		Name: "web", Image: "nginx", Env: []v1.EnvVar{value}, Command: []string{secret}, Args: []string{secret}, LivenessProbe: &v1.Probe{},
		Resources: v1.ResourceRequirements{Limits: v1.ResourceList{"memory": resource.MustParse("64Mi")}},
		Lifecycle: &v1.Lifecycle{PreStop: &v1.LifecycleHandler{HTTPGet: &v1.HTTPGetAction{HTTPHeaders: []v1.HTTPHeader{{Value: secret}}}}},
	}
	sidecar, init := c, c
	sidecar.Name, sidecar.RestartPolicy, init.Name = "mesh", ptr.To(v1.ContainerRestartPolicyAlways), "migrate"
	pod := v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "u", Annotations: map[string]string{"kubectl.kubernetes.io/last-applied-configuration": secret}},
		Spec: v1.PodSpec{
			InitContainers: []v1.Container{init, sidecar}, Containers: []v1.Container{c},
			EphemeralContainers: []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "look", Image: "busybox"}}},
			Volumes:             []v1.Volume{{Name: "data"}},
		},
		Status: v1.PodStatus{
			Phase: v1.PodRunning, Conditions: []v1.PodCondition{{Type: v1.PodReady, Status: v1.ConditionTrue}, {Type: v1.PodInitialized, Status: v1.ConditionFalse}},
			ContainerStatuses: []v1.ContainerStatus{
				{Name: "web", RestartCount: 3, State: v1.ContainerState{Terminated: &v1.ContainerStateTerminated{ExitCode: 2, Reason: "Error", Message: secret}}},
				{Name: "b", State: v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off 10s"}}},
				{Name: "c", Ready: true, State: v1.ContainerState{Running: &v1.ContainerStateRunning{}}},
			},
		},
	}
	base, token := serve(t, &agent{pods: []v1.Pod{pod}}, 0)
	_, body := do(t, request(t, "GET", base+"pods", bearer(token)))
	if strings.Contains(body, secret) {
		t.Errorf("a secret is shown: %s", body)
	}
	for _, want := range []string{
		`"name":"web","image":"nginx","env":["PASSWORD"],"probes":["liveness"],"resources":["limit memory 64Mi"]`, `"name":"mesh","kind":"sidecar"`, `"name":"migrate","kind":"init"`,
		`"name":"look","kind":"debug"`, `"volumes":["data"]`, `"phase":"Running","conditions":["Ready"]`, `"state":"terminated","reason":"Error","exitCode":2`,
		`"state":"waiting","reason":"CrashLoopBackOff","message":"back-off 10s"`, `"state":"running"`, `"restarts":3`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in %s", want, body)
		}
	}
}

func TestWhatIsShownIsBounded(t *testing.T) {
	long := strings.Repeat("é", 5000)
	p := v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: long}}
	for range 500 {
		p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: long, Image: long, Env: slices.Repeat([]v1.EnvVar{{Name: long}}, 500)})
		p.Spec.Volumes = append(p.Spec.Volumes, v1.Volume{Name: long})
		p.Status.Conditions = append(p.Status.Conditions, v1.PodCondition{Type: v1.PodConditionType(long), Status: v1.ConditionTrue})
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, v1.ContainerStatus{Name: long})
	}
	big, err := answerWith(slices.Repeat([]v1.Pod{p}, 20))
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	for _, text := range big.Pods {
		size += len(text)
	}
	if !big.Cut || size > maxAnswer || len(big.Pods) == 0 {
		t.Errorf("of 20 large pods %d are shown, in %d bytes; cut: %v", len(big.Pods), size, big.Cut)
	}
	for n, cut := range map[int]bool{0: false, maxPods: false, maxPods + 1: true} {
		if a, err := answerWith(make([]v1.Pod, n)); err != nil || len(a.Pods) != min(n, maxPods) || a.Cut != cut {
			t.Errorf("of %d pods %d are shown; cut: %v, %v", n, len(a.Pods), a.Cut, err)
		}
	}
	one := show(&p)
	if len(one.Name) > maxText+3 || len(one.Wanted.Containers) != maxEntries || len(one.Wanted.Containers[0].Env) != maxEntries || len(one.Wanted.Volumes) != maxEntries ||
		len(one.Seen.Conditions) != maxEntries || len(one.Seen.Containers) != maxEntries {
		t.Errorf("a pod has a name of %d bytes, %d containers, %d variables, %d volumes, %d conditions, %d statuses", len(one.Name), len(one.Wanted.Containers),
			len(one.Wanted.Containers[0].Env), len(one.Wanted.Volumes), len(one.Seen.Conditions), len(one.Seen.Containers))
	}
}
