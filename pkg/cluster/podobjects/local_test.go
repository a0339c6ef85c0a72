package podobjects

import (
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func localMap(name, value string) metav1.Object {
	return &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Data: map[string]string{"k": value}}
}

func localSecret(name, value string) metav1.Object {
	return &v1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Data: map[string][]byte{"k": []byte(value)}}
}

// user is a pod that refers to a ConfigMap and a Secret, "" for none.
func user(uid, configMap, secret string) *v1.Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: uid, UID: types.UID(uid)}}
	p.Spec.Containers = []v1.Container{{EnvFrom: []v1.EnvFromSource{
		{ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: configMap}}},
		{SecretRef: &v1.SecretEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: secret}}},
	}}}
	return p
}

func newLocal(t *testing.T, c LocalConfig) *Local {
	t.Helper()
	l, err := NewLocal(c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLocalTellsThePodsOfWhatHasChanged(t *testing.T) {
	var told []string
	l := newLocal(t, LocalConfig{Changed: func(pods []types.UID) {
		for _, uid := range pods {
			told = append(told, string(uid))
		}
	}})
	for _, p := range []*v1.Pod{user("map", "m", ""), user("secret", "", "s"), user("both", "m", "s"), user("missing", "none", ""), user("gone", "m", "s")} {
		l.Register(p)
	}
	l.Unregister("gone")
	l.Unregister("unknown")
	for _, step := range []struct {
		what     string
		all      []metav1.Object
		complete bool
		told     string
	}{
		{"the first source", []metav1.Object{localMap("m", "1")}, false, "both map"},
		{"the last source: what is missing is missing", []metav1.Object{localMap("m", "1"), localSecret("s", "1")}, true, "both missing secret"},
		{"the same again", []metav1.Object{localMap("m", "1"), localSecret("s", "1")}, true, ""},
		{"an edited ConfigMap", []metav1.Object{localMap("m", "2"), localSecret("s", "1")}, true, "both map"},
		{"an edited Secret", []metav1.Object{localMap("m", "2"), localSecret("s", "2")}, true, "both secret"},
		{"a Secret of the ConfigMap's name", []metav1.Object{localMap("m", "2"), localSecret("s", "2"), localSecret("m", "2")}, true, ""},
		{"a removed ConfigMap", []metav1.Object{localSecret("s", "2")}, true, "both map"},
	} {
		told = nil
		l.Set(step.all, step.complete)
		slices.Sort(told)
		if got := strings.Join(told, " "); got != step.told {
			t.Errorf("%s: told %q, want %q", step.what, got, step.told)
		}
	}
	told = nil
	l.Register(user("map", "other", ""))
	l.Set([]metav1.Object{localMap("other", "1"), localSecret("s", "2")}, true)
	if len(told) != 1 || told[0] != "map" {
		t.Errorf("told %q of what the pod refers to now", told)
	}
}

func TestLocalAnswers(t *testing.T) {
	l := newLocal(t, LocalConfig{})
	if _, err := l.ConfigMap(t.Context(), "ns", "m"); err == nil || apierrors.IsNotFound(err) {
		t.Errorf("before the manifests are read: %v", err)
	}
	l.Set([]metav1.Object{localMap("m", "1"), localSecret("s", "2")}, true)
	if m, err := l.ConfigMap(t.Context(), "ns", "m"); err != nil || m.Data["k"] != "1" {
		t.Errorf("ConfigMap %v, %v", m, err)
	}
	if s, err := l.Secret(t.Context(), "ns", "s"); err != nil || string(s.Data["k"]) != "2" {
		t.Errorf("Secret %v, %v", s, err)
	}
	if _, err := l.ConfigMap(t.Context(), "other", "m"); !apierrors.IsNotFound(err) || err.Error() != `configmap "m" not found` {
		t.Errorf("of another namespace: %v", err)
	}
	if _, err := l.Secret(t.Context(), "ns", "m"); !apierrors.IsNotFound(err) {
		t.Errorf("of another kind: %v", err)
	}
	if _, err := l.Token(t.Context(), user("p", "", ""), "", 0); err == nil || err.Error() != "a standalone node has nobody who issues service-account tokens" {
		t.Errorf("token: %v", err)
	}
}
