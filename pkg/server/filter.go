package server

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/klog/v2"
)

// filter passes only requests whose user is known and may do what the request asks
// for.
type filter struct {
	authenticator authenticator.Request
	authorizer    authorizer.Authorizer
	advice        string // what a 403 says besides
	nodeName      string
	next          http.Handler
}

func (f *filter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	who, ok, err := f.authenticator.AuthenticateRequest(r)
	if err != nil || !ok {
		klog.V(2).InfoS("Request not authenticated", "path", r.URL.Path, "client", r.RemoteAddr, "err", err)
		turnAway(w, http.StatusUnauthorized, "Unauthorized")
		return
	}
	var asked []string
	for _, a := range attributes(who.User, r, f.nodeName) {
		asked = append(asked, a.Subresource)
		decision, _, err := f.authorizer.Authorize(r.Context(), a)
		if err != nil {
			klog.ErrorS(err, "Authorization failed", "user", a.User.GetName(), "verb", a.Verb, "subresource", a.Subresource)
			turnAway(w, http.StatusInternalServerError, fmt.Sprintf("Authorization error (user=%s, verb=%s, resource=%s, subresource=%s)",
				a.User.GetName(), a.Verb, a.Resource, a.Subresource))
			return
		}
		if decision == authorizer.DecisionAllow {
			if !letIn(r.Context()) {
				turnAway(w, http.StatusServiceUnavailable, "Too many connections")
				return
			}
			f.next.ServeHTTP(w, r)
			return
		}
	}
	verb := verbOf(r)
	klog.V(2).InfoS("Request forbidden", "user", who.User.GetName(), "verb", verb, "subresources", asked, "client", r.RemoteAddr)
	text := fmt.Sprintf("Forbidden (user=%s, verb=%s, resource=nodes, subresource(s)=%v)\n", who.User.GetName(), verb, asked)
	if f.advice != "" {
		text += f.advice + "\n"
	}
	turnAway(w, http.StatusForbidden, text)
}

// attributes returns what a request may be authorized as: one of them is enough.
func attributes(u user.Info, r *http.Request, nodeName string) []authorizer.AttributesRecord {
	var all []authorizer.AttributesRecord
	for _, subresource := range subresources(r.URL.Path) {
		all = append(all, authorizer.AttributesRecord{
			User: u, Verb: verbOf(r), APIVersion: "v1", Resource: "nodes", Subresource: subresource,
			Name: nodeName, ResourceRequest: true, Path: r.URL.Path,
		})
	}
	return all
}

// verbOf is the API verb of a request: of its method, "" if there is none, but always
// create for what runs something in a container or connects to it. With a WebSocket
// these come by GET, and who may "get" the node's proxy is meant to read. (The kubelet
// takes the method alone; see docs/threat-model.md.)
func verbOf(r *http.Request) string {
	for _, acts := range []string{"/exec", "/attach", "/portForward", "/run"} {
		if r.URL.Path == acts || strings.HasPrefix(r.URL.Path, acts+"/") {
			return "create"
		}
	}
	switch r.Method {
	case http.MethodPost:
		return "create"
	case http.MethodGet:
		return "get"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		return "delete"
	}
	return ""
}

// subresources returns the subresources of nodes that a path belongs to, the more
// specific first (KEP-2862).
func subresources(path string) []string {
	for _, p := range []struct {
		prefix string
		give   []string
	}{
		{"/pods", []string{"pods", "proxy"}},
		{EventsPath, []string{"pods", "proxy"}}, // which says no more than they do
		{JournalPath, []string{"proxy"}},
		{DecisionsPath, []string{"proxy"}},
		{VersionsPath, []string{"proxy"}},
		{TeachPath, []string{"proxy"}},
		{"/runningpods", []string{"pods", "proxy"}},
		{"/healthz", []string{"healthz", "proxy"}},
		{"/configz", []string{"configz", "proxy"}},
		{"/stats", []string{"stats"}},
		{"/metrics", []string{"metrics"}},
		{"/logs", []string{"log"}},
		{"/checkpoint", []string{"checkpoint"}},
		{"/statusz", []string{"statusz"}},
		{"/flagz", []string{"configz"}},
	} {
		if path == p.prefix || strings.HasPrefix(path, p.prefix+"/") {
			return p.give
		}
	}
	return []string{"proxy"}
}

// turnAway answers who is not let in, and closes the connection: without waiting for a
// body, as the HTTP server would.
func turnAway(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Connection", "close")
	say(w, code, text)
	_ = http.NewResponseController(w).SetReadDeadline(time.Now())
}

// say answers with plain text only.
func say(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text) // an error is the client's
}
