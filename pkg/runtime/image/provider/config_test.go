package provider

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWrongConfigurations(t *testing.T) {
	const head = "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n"
	const ok = "  apiVersion: credentialprovider.kubelet.k8s.io/v1\n  matchImages: [reg.example]\n  defaultCacheDuration: 1m\n"
	const token = "- name: p\n" + ok + "  tokenAttributes:\n"
	for name, tt := range map[string]struct{ text, want string }{
		"another kind":          {"apiVersion: v1\nkind: Pod\n", "want a CredentialProviderConfig"},
		"another version":       {"apiVersion: kubelet.config.k8s.io/v2\nkind: CredentialProviderConfig\n", "want a CredentialProviderConfig"},
		"an unknown field":      {head + "- name: p\n  nope: 1\n" + ok, "nope"},
		"none":                  {head, "no providers"},
		"no name":               {head + "- name: ''\n" + ok, "provider 0 (): name: must be"},
		"a path":                {head + "- name: a/b\n" + ok, "name: must be"},
		"twice":                 {head + "- name: p\n" + ok + "- name: p\n" + ok, "provider 1 (p): name: is there twice"},
		"no version":            {head + "- name: p\n  matchImages: [reg]\n  defaultCacheDuration: 1m\n", "apiVersion: must be one of"},
		"matches nothing":       {head + "- name: p\n  apiVersion: credentialprovider.kubelet.k8s.io/v1\n  defaultCacheDuration: 1m\n", "matchImages: is missing"},
		"a pattern":             {head + "- name: p\n" + strings.Replace(ok, "reg.example", `"%zz"`, 1), "matchImages: parse"},
		"no duration":           {head + "- name: p\n  apiVersion: credentialprovider.kubelet.k8s.io/v1\n  matchImages: [reg]\n", "defaultCacheDuration: is missing"},
		"a negative duration":   {head + "- name: p\n" + strings.Replace(ok, "1m", "-1m", 1), "must not be negative"},
		"no audience":           {head + token + "    cacheType: Token\n    requireServiceAccount: true\n", "serviceAccountTokenAudience: is missing"},
		"no requirement":        {head + token + "    cacheType: Token\n    serviceAccountTokenAudience: a\n", "requireServiceAccount: is missing"},
		"no cache type":         {head + token + "    serviceAccountTokenAudience: a\n    requireServiceAccount: true\n", "cacheType: must be"},
		"annotations for none":  {head + token + "    cacheType: Token\n    serviceAccountTokenAudience: a\n    requireServiceAccount: false\n    requiredServiceAccountAnnotationKeys: [a]\n", "needs requireServiceAccount"},
		"an annotation twice":   {head + token + "    cacheType: Token\n    serviceAccountTokenAudience: a\n    requireServiceAccount: true\n    requiredServiceAccountAnnotationKeys: [a]\n    optionalServiceAccountAnnotationKeys: [a]\n", `"a" is there twice`},
		"an annotation's name":  {head + token + "    cacheType: Token\n    serviceAccountTokenAudience: a\n    requireServiceAccount: true\n    optionalServiceAccountAnnotationKeys: ['a b']\n", `annotation key "a b"`},
		"tokens for an old API": {head + strings.Replace(token, "io/v1\n", "io/v1beta1\n", 1) + "    cacheType: Token\n    serviceAccountTokenAudience: a\n    requireServiceAccount: true\n", "tokenAttributes: needs apiVersion"},
		"tokens of an old file": {strings.Replace(head, "v1", "v1beta1", 1) + token + "    cacheType: Token\n", "provider p: tokenAttributes: not in"},
		"no program":            {head + "- name: absent\n" + ok, "plug-in absent: there is no such program in"},
		"no executable":         {head + "- name: config.yaml\n" + ok, "plug-in config.yaml: "},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "config.yaml")
			write(t, path, tt.text)
			_, err := New(Config{ConfigPath: path, BinDir: dir})
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "--image-credential-provider-") {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func TestADirectoryOfConfigurations(t *testing.T) {
	dir := t.TempDir()
	if _, err := load(dir); err == nil || !strings.Contains(err.Error(), "no *.json") {
		t.Errorf("an empty directory: %v", err)
	}
	const ok = `"apiVersion":"credentialprovider.kubelet.k8s.io/v1alpha1","matchImages":["reg.example"],"defaultCacheDuration":"0s"`
	write(t, filepath.Join(dir, "b.json"), `{"apiVersion":"kubelet.config.k8s.io/v1alpha1","kind":"CredentialProviderConfig","providers":[{"name":"b",`+ok+`}]}`)
	write(t, filepath.Join(dir, "a.yml"), `{"apiVersion":"kubelet.config.k8s.io/v1beta1","kind":"CredentialProviderConfig","providers":[{"name":"a",`+ok+`}]}`)
	write(t, filepath.Join(dir, "README.md"), "not read")
	list, err := load(dir)
	if err != nil || len(list) != 2 || list[0].Name != "a" || list[1].Name != "b" {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := load(filepath.Join(dir, "absent")); err == nil {
		t.Error("a missing file is accepted")
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
