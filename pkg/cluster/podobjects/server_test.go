package podobjects

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	authentication "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
)

// apiServer serves ConfigMaps and Secrets as far as a Cache asks for them: get,
// list and watch of one name, and TokenRequests. It refuses what the Node
// authorizer would refuse.
type apiServer struct {
	t    *testing.T
	http *httptest.Server

	mu      sync.Mutex
	version int
	objects map[string]metav1.Object // "configmaps/ns/name"
	watches map[chan watchEvent]string
	seen    map[string]int // requests by verb and key, e.g. "watch configmaps/ns/name"
	down    bool
	token   func(*authentication.TokenRequest) (*authentication.TokenRequest, error)
}

type watchEvent struct {
	Type   string `json:"type"`
	Object any    `json:"object"`
}

func newAPIServer(t *testing.T) (*apiServer, core.CoreV1Interface) {
	t.Helper()
	s := &apiServer{t: t, version: 100, objects: map[string]metav1.Object{}, watches: map[chan watchEvent]string{}, seen: map[string]int{}}
	s.http = httptest.NewServer(s)
	t.Cleanup(func() {
		s.http.CloseClientConnections()
		s.http.Close()
	})
	client, err := core.NewForConfig(&rest.Config{Host: s.http.URL, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: "application/json"}})
	if err != nil {
		t.Fatal(err)
	}
	return s, client
}

func configMapOf(name, value string) *v1.ConfigMap {
	return &v1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name)}, Data: map[string]string{"k": value}}
}

func secretOf(name, value string) *v1.Secret {
	return &v1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name)}, Data: map[string][]byte{"k": []byte(value)}}
}

func resourceOf(o any) string {
	if _, ok := o.(*v1.Secret); ok {
		return "secrets"
	}
	return "configmaps"
}

// put creates or replaces an object and tells the watches.
func (s *apiServer) put(o metav1.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	o.SetResourceVersion(fmt.Sprint(s.version))
	k := resourceOf(o) + "/" + o.GetNamespace() + "/" + o.GetName()
	kind := "ADDED"
	if s.objects[k] != nil {
		kind = "MODIFIED"
	}
	s.objects[k] = o
	s.tell(k, watchEvent{kind, o})
}

func (s *apiServer) remove(k string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[k]
	s.version++
	delete(s.objects, k)
	s.tell(k, watchEvent{"DELETED", o})
}

func (s *apiServer) tell(k string, e watchEvent) {
	for c, of := range s.watches {
		if of == k {
			c <- e
		}
	}
}

// fail makes every request fail and ends the watches, or heals the server.
func (s *apiServer) fail(down bool) {
	s.mu.Lock()
	s.down = down
	s.mu.Unlock()
	if down {
		s.http.CloseClientConnections()
	}
}

func (s *apiServer) watching(k string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, of := range s.watches {
		if of == k {
			n++
		}
	}
	return n
}

func (s *apiServer) count(request string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[request]
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/api/v1/namespaces/"), "/")
	s.mu.Lock()
	down := s.down
	s.mu.Unlock()
	if down {
		status(w, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable)
		return
	}
	if len(parts) == 4 && parts[1] == "serviceaccounts" {
		s.serveToken(w, r)
		return
	}
	q := r.URL.Query()
	name, ok := strings.CutPrefix(q.Get("fieldSelector"), "metadata.name=")
	if len(parts) == 3 {
		name, ok = parts[2], true
	}
	if !ok {
		status(w, http.StatusForbidden, metav1.StatusReasonForbidden)
		return
	}
	k := parts[1] + "/" + parts[0] + "/" + name
	switch {
	case len(parts) == 3:
		s.serveGet(w, k)
	case q.Get("watch") != "":
		s.serveWatch(w, r, k)
	default:
		s.serveList(w, k)
	}
}

func (s *apiServer) serveGet(w http.ResponseWriter, k string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen["get "+k]++
	if o := s.objects[k]; o != nil {
		reply(w, o)
		return
	}
	status(w, http.StatusNotFound, metav1.StatusReasonNotFound)
}

func (s *apiServer) serveList(w http.ResponseWriter, k string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen["list "+k]++
	items := []any{}
	if o := s.objects[k]; o != nil {
		items = append(items, o)
	}
	kind := "ConfigMapList"
	if strings.HasPrefix(k, "secrets/") {
		kind = "SecretList"
	}
	reply(w, map[string]any{"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"resourceVersion": fmt.Sprint(s.version)}, "items": items})
}

func (s *apiServer) serveWatch(w http.ResponseWriter, r *http.Request, k string) {
	events := make(chan watchEvent, 100)
	s.mu.Lock()
	s.seen["watch "+k]++
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		if o := s.objects[k]; o != nil {
			events <- watchEvent{"ADDED", o}
		}
		kind := "ConfigMap"
		if strings.HasPrefix(k, "secrets/") {
			kind = "Secret"
		}
		events <- watchEvent{"BOOKMARK", map[string]any{"apiVersion": "v1", "kind": kind, "metadata": map[string]any{
			"resourceVersion": fmt.Sprint(s.version), "annotations": map[string]string{metav1.InitialEventsAnnotationKey: "true"}}}}
	}
	s.watches[events] = k
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.watches, events)
		s.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "application/json")
	for {
		w.(http.Flusher).Flush()
		select {
		case e := <-events:
			s.mu.Lock() // the object may be stamped by put
			err := json.NewEncoder(w).Encode(e)
			s.mu.Unlock()
			if err != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

func (s *apiServer) serveToken(w http.ResponseWriter, r *http.Request) {
	var in authentication.TokenRequest
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		s.t.Errorf("token request: %v", err)
	}
	out, err := s.token(&in)
	if err != nil {
		status(w, http.StatusInternalServerError, metav1.StatusReasonInternalError)
		return
	}
	out.TypeMeta = metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "TokenRequest"}
	reply(w, out)
}

func reply(w http.ResponseWriter, o any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(o) // the client reports errors
}

func status(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Reason: reason, Code: int32(code), Message: string(reason)})
}
