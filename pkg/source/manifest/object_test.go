package manifest

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// document is a manifest of a ConfigMap or Secret of that name.
func document(kind, name string, lines ...string) string {
	return "apiVersion: v1\nkind: " + kind + "\nmetadata:\n  name: " + name + "\n" + strings.Join(lines, "\n") + "\n"
}

const node = "Node-1"

// podManifest is a small valid manifest of a pod.
func podManifest(name string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata:\n  name: " + name + "\nspec:\n  containers:\n  - name: c\n    image: busybox:1\n"
}

var standalone = Origin{Source: pods.SourceFile, From: "/m/a.yaml", Node: node, Objects: true}

func TestObjectsOfAManifest(t *testing.T) {
	docs := standalone.Read([]byte(document("ConfigMap", "settings", "data: {a: x}", "binaryData: {b: AAE=}") + "---\n" +
		document("Secret", "login", "data: {user: YWRtaW4=, password: b2xk}", "stringData: {password: new}") + "---\n" +
		"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: listed, namespace: other}, immutable: true}\n" + "---\n" +
		"apiVersion: v1\nkind: SecretList\nitems:\n- metadata: {name: bare}\n  type: example.org/own\n"))
	if len(docs) != 4 {
		t.Fatalf("%d documents", len(docs))
	}
	for _, d := range docs {
		if d.Failed() || len(d.problems) > 0 {
			t.Fatalf("%s: %v", d.name, d.problems)
		}
	}
	m := docs[0].object.(*v1.ConfigMap)
	if m.Namespace != "default" || m.Data["a"] != "x" || string(m.BinaryData["b"]) != "\x00\x01" {
		t.Errorf("ConfigMap %+v", m)
	}
	s := docs[1].object.(*v1.Secret)
	if string(s.Data["user"]) != "admin" || string(s.Data["password"]) != "new" || s.Type != v1.SecretTypeOpaque || s.StringData != nil {
		t.Errorf("Secret %+v", s)
	}
	if m := docs[2].object.(*v1.ConfigMap); m.Namespace != "other" || !ptr.Deref(m.Immutable, false) {
		t.Errorf("listed ConfigMap %+v", m)
	}
	if s := docs[3].object.(*v1.Secret); s.Name != "bare" || s.Type != "example.org/own" {
		t.Errorf("listed Secret %+v", s)
	}
}

func TestBadObjectsAreRefusedWithFieldAndLineAndWithoutSecrets(t *testing.T) {
	const secret = "hunter2"
	big := strings.Repeat("x", v1.MaxSecretSize)
	for name, tt := range map[string]struct {
		text string
		want string // of the one problem, after the file
	}{
		"unknown field":           {document("ConfigMap", "m", "date: {}"), "document 1 (line 5): date: unknown field"},
		"spelling":                {document("Secret", "s", "stringdata: {a: "+secret+"}"), `document 1 (line 5): stringdata: unknown field (it is spelt "stringData")`},
		"number for text":         {document("ConfigMap", "m", "data:", "  port: 80"), `document 1 (line 6): data[port]: Invalid value: 80: must be of type string`},
		"secret number for text":  {document("Secret", "s", "stringData:", "  pin: 1234"), `document 1 (line 6): stringData[pin]: must be of type string`},
		"secret list":             {document("Secret", "s", "stringData:", "  pin: ["+secret+"]"), `document 1 (line 6): stringData[pin]: must be of type string`},
		"secret text for object":  {document("Secret", "s", "data: "+secret), `document 1 (line 5): data: must be of type object`},
		"not base64":              {document("Secret", "s", "data:", "  a: "+secret+"!"), `document 1 (line 6): data[a]: must be base64 text`},
		"binaryData not base64":   {document("ConfigMap", "s", "binaryData:", "  a: '!'"), `document 1 (line 6): binaryData[a]: must be base64 text`},
		"doubled key":             {document("Secret", "s", "data:", "  a: aHVudGVyMg==", "  a: aHVudGVyMg=="), `document 1 (line 7): not YAML: key "a" already set in map`},
		"unknown anchor":          {document("Secret", "s", "stringData:", "  a: *"+secret), `document 1 (line 1): not YAML: unknown anchor … referenced`},
		"wrong tag":               {document("Secret", "s", "stringData:", "  a: !!int "+secret), `document 1 (line 1): not YAML: cannot decode !!str … as a !!int`},
		"bad key":                 {document("ConfigMap", "m", "data:", "  a/b: x"), `document 1 (line 6): data[a/b]: Invalid value: "a/b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')`},
		"key in both":             {document("ConfigMap", "m", "data: {a: x}", "binaryData: {a: eA==}"), `document 1 (line 5): data[a]: Invalid value: "a": duplicate of key present in binaryData`},
		"too large":               {document("ConfigMap", "m", "data: {a: "+big+"}", "binaryData: {b: eA==}"), `document 1 (line 5): data: Too long: may not be more than 1048576 bytes`},
		"too large a secret":      {document("Secret", "m", "stringData: {a: "+big+"x}"), `document 1 (line 1): data: Too long: may not be more than 1048576 bytes`},
		"no name":                 {"apiVersion: v1\nkind: ConfigMap\n", `document 1 (line 1): metadata.name: Required value`},
		"bad name":                {document("Secret", "A"), `document 1 (line 4): metadata.name: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`},
		"TLS without key":         {document("Secret", "s", "type: kubernetes.io/tls", "data: {tls.crt: eA==}"), `document 1 (line 6): data[tls.key]: Required value`},
		"registry not JSON":       {document("Secret", "s", "type: kubernetes.io/dockerconfigjson", "stringData: {.dockerconfigjson: "+secret+"}"), `document 1 (line 6): stringData[.dockerconfigjson]: Invalid value: "<secret contents redacted>": must be a JSON object`},
		"SSH without key":         {document("Secret", "s", "type: kubernetes.io/ssh-auth"), `document 1 (line 1): data[ssh-privatekey]: Required value`},
		"token of nobody":         {document("Secret", "s", "type: kubernetes.io/service-account-token"), `document 1 (line 3): metadata.annotations[kubernetes.io/service-account.name]: Required value`},
		"service":                 {document("Service", "c"), `document 1 (line 2): kind: Service of v1 cannot be used from a manifest: only Pod, ConfigMap, Secret, PersistentVolume, PersistentVolumeClaim and lists of these of v1 can`},
		"secret text for a list":  {"apiVersion: v1\nkind: SecretList\nitems: " + secret + "\n", `document 1 (line 3): items: must be of type array`},
		"anchor of no known kind": {"apiVersion: v1\nkind: secret\ndata:\n  a: *" + secret + "\n", `document 1 (line 1): not YAML: unknown anchor … referenced`},
		"item of another kind":    {"apiVersion: v1\nkind: SecretList\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n", `document 1 (line 5): items[0].kind: ConfigMap of v1 is not a Secret of v1`},
	} {
		t.Run(name, func(t *testing.T) {
			docs := standalone.Read([]byte(tt.text))
			if len(docs) != 1 || !docs[0].Failed() || len(docs[0].problems) != 1 {
				t.Fatalf("got %+v", docs)
			}
			if got := strings.TrimPrefix(docs[0].problems[0].Error(), ": "); got != tt.want || strings.Contains(got, secret) {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestANodeOfAClusterTakesNoObjects(t *testing.T) {
	from := standalone
	from.Objects = false
	for _, kind := range []string{"ConfigMap", "Secret", "PersistentVolume", "PersistentVolumeClaim"} {
		docs := from.Read([]byte(document(kind, "o")))
		if len(docs) != 1 || !docs[0].Failed() || len(docs[0].problems) != 1 || docs[0].problems[0].Line != 2 ||
			docs[0].problems[0].Message != "a "+kind+" cannot be given to a node of a cluster: its pods take theirs from the API server, and static pods cannot refer to any" {
			t.Errorf("%s: %+v", kind, docs)
		}
	}
}

func TestImmutableObjects(t *testing.T) {
	old := map[string]string{
		"immutable": document("ConfigMap", "o", "immutable: true", "data: {a: x}"),
		"mutable":   document("ConfigMap", "o", "data: {a: x}"),
		"secret":    document("Secret", "o", "immutable: true", "stringData: {a: x}"),
	}
	for name, tt := range map[string]struct{ old, now, want string }{
		"the same":                 {"immutable", document("ConfigMap", "o", "immutable: true", "data: {a: x}"), ""},
		"changed labels":           {"immutable", document("ConfigMap", "o", "  labels: {l: v}", "immutable: true", "data: {a: x}"), ""},
		"changed data":             {"immutable", document("ConfigMap", "o", "immutable: true", "data: {a: z}"), "data"},
		"new binaryData":           {"immutable", document("ConfigMap", "o", "immutable: true", "data: {a: x}", "binaryData: {b: eA==}"), "binaryData"},
		"mutable again":            {"immutable", document("ConfigMap", "o", "data: {a: x}"), "immutable"},
		"made immutable":           {"mutable", document("ConfigMap", "o", "immutable: true", "data: {a: z}"), ""},
		"changed data of a secret": {"secret", document("Secret", "o", "immutable: true", "stringData: {a: z}"), "data"},
		"another type of secret":   {"secret", document("Secret", "o", "immutable: true", "stringData: {a: x}", "type: own"), "type"},
		"another object":           {"immutable", document("ConfigMap", "p", "data: {a: z}"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := KeepFailed(Content{}, standalone.Read([]byte(old[tt.old])), node)
			docs := standalone.Read([]byte(tt.now))
			RefuseChanges(docs, before)
			var fields []string
			for _, p := range docs[0].problems {
				fields = append(fields, p.Field)
			}
			if got := strings.Join(fields, " "); got != tt.want || docs[0].Failed() != (tt.want != "") {
				t.Errorf("problems %v, want %q", docs[0].problems, tt.want)
			}
		})
	}
}
