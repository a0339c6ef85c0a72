package record

import (
	"reflect"
	"strings"
	"testing"

	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image/keyring"
)

const (
	never       = kubeletconfig.NeverVerify
	preloaded   = kubeletconfig.NeverVerifyPreloadedImages
	allowlisted = kubeletconfig.NeverVerifyAllowlistedImages
	always      = kubeletconfig.AlwaysVerify
)

type (
	who    = kubeletconfig.ImagePullCredentials
	secret = kubeletconfig.ImagePullSecret
	svc    = kubeletconfig.ImagePullServiceAccount
)

func knownTo(image string, w who) *kubeletconfig.ImagePulledRecord {
	return &kubeletconfig.ImagePulledRecord{CredentialMapping: map[string]who{image: w}}
}

func TestDecide(t *testing.T) {
	bySecret := who{KubernetesSecrets: []secret{{UID: "1"}}}
	byAccount := who{KubernetesServiceAccounts: []svc{{UID: "1"}}}
	all := who{NodePodsAccessible: true}
	for name, tt := range map[string]struct {
		mode    kubeletconfig.ImagePullCredentialsVerificationPolicy
		image   string
		known   *kubeletconfig.ImagePulledRecord
		pulling bool
		want    answer
	}{
		"never, by another's Secret":         {never, "reg/app:1", knownTo("reg/app", bySecret), false, open},
		"preloaded":                          {preloaded, "reg/app:1", nil, false, open},
		"preloaded, by a Secret":             {preloaded, "reg/app:1", knownTo("reg/app", bySecret), false, ask},
		"preloaded, by a service account":    {preloaded, "reg/app:1", knownTo("reg/app", byAccount), false, ask},
		"preloaded, by the node":             {preloaded, "reg/app:1", knownTo("reg/app", all), false, open},
		"preloaded, by nobody known":         {preloaded, "reg/app:1", knownTo("reg/app", who{}), false, closed},
		"preloaded, under another name":      {preloaded, "reg/app:1", knownTo("other/app", all), false, closed},
		"preloaded, being pulled":            {preloaded, "reg/app:1", nil, true, closed},
		"a digest is the same repository":    {preloaded, "reg/app@sha256:" + strings.Repeat("0", 64), knownTo("reg/app", all), false, open},
		"allowlist, preloaded":               {allowlisted, "reg/app:1", nil, false, closed},
		"allowlist, named":                   {allowlisted, "good/app:1", nil, false, open},
		"allowlist, named and pulled":        {allowlisted, "good/app:1", knownTo("good/app", bySecret), false, open},
		"allowlist, not in the named one":    {allowlisted, "good/app/more:1", nil, false, closed},
		"allowlist, beginning":               {allowlisted, "good/all/app:1", nil, false, open},
		"allowlist, beginning within a name": {allowlisted, "good/allapp:1", nil, false, closed},
		"allowlist, by the node":             {allowlisted, "reg/app:1", knownTo("reg/app", all), false, open},
		"always, preloaded":                  {always, "reg/app:1", nil, false, closed},
		"always, by the node":                {always, "reg/app:1", knownTo("reg/app", all), false, open},
		"always, by a Secret":                {always, "reg/app:1", knownTo("reg/app", bySecret), false, ask},
	} {
		t.Run(name, func(t *testing.T) {
			var list []string
			if tt.mode == allowlisted {
				list = []string{"good/app", "good/all/*"}
			}
			p, err := options.NewImageVerification(tt.mode, list)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := decide(p, tt.image, tt.known, tt.pulling); got != tt.want {
				t.Errorf("%s, want: %s", got, tt.want)
			}
		})
	}
}

func fromSecret(name, hash string) keyring.Credential {
	return keyring.Credential{Hash: hash, Source: keyring.Source{Secret: &keyring.Object{UID: "u-" + name, Namespace: "ns", Name: name}}}
}

func fromAccount(name string) keyring.Credential {
	return keyring.Credential{Hash: "h", Source: keyring.Source{ServiceAccount: &keyring.Object{UID: "u-" + name, Namespace: "ns", Name: name}}}
}

func onRecord(name, hash string) secret {
	return secret{UID: "u-" + name, Namespace: "ns", Name: name, CredentialHash: hash}
}

func TestMatching(t *testing.T) {
	known := who{
		KubernetesSecrets:         []secret{onRecord("a", "h1"), onRecord("b", "h2"), onRecord("nohash", "")},
		KubernetesServiceAccounts: []svc{{UID: "u-sa", Namespace: "ns", Name: "sa"}},
	}
	for name, tt := range map[string]struct {
		has  []keyring.Credential
		want int // -1: none
	}{
		"no credentials":                 {nil, -1},
		"the same":                       {[]keyring.Credential{fromSecret("a", "h1")}, 0},
		"the same login, another Secret": {[]keyring.Credential{fromSecret("x", "h2")}, 0},
		"the same Secret, another login": {[]keyring.Credential{fromSecret("a", "new")}, 0},
		"another":                        {[]keyring.Credential{fromSecret("x", "h3")}, -1},
		"no hash is no match":            {[]keyring.Credential{fromSecret("x", "")}, -1},
		"the second":                     {[]keyring.Credential{fromSecret("x", "h3"), fromSecret("b", "h2")}, 1},
		"the service account":            {[]keyring.Credential{fromAccount("sa")}, 0},
		"another service account":        {[]keyring.Credential{fromAccount("other")}, -1},
		"a node's login proves nothing":  {[]keyring.Credential{{Hash: "h1"}}, -1},
		"the same name, another Secret": {[]keyring.Credential{{Hash: "x", Source: keyring.Source{
			Secret: &keyring.Object{UID: "made anew", Namespace: "ns", Name: "a"}}}}, -1},
	} {
		t.Run(name, func(t *testing.T) {
			got := matching(known, tt.has)
			if (got == nil) != (tt.want < 0) || got != nil && got != &tt.has[tt.want] {
				t.Errorf("%+v, want number %d", got, tt.want)
			}
		})
	}
}

func TestAdd(t *testing.T) {
	a, b, sa := fromSecret("a", "h1"), fromSecret("b", "h2"), fromAccount("sa")
	newer := fromSecret("a", "h9")
	both := who{KubernetesSecrets: []secret{onRecord("a", "h1"), onRecord("b", "h2")}}
	account := []svc{{UID: "u-sa", Namespace: "ns", Name: "sa"}}
	for name, tt := range map[string]struct {
		before  who
		used    *keyring.Credential
		want    who
		changed bool
	}{
		"the first":                         {who{}, &b, who{KubernetesSecrets: []secret{onRecord("b", "h2")}}, true},
		"another, in order":                 {who{KubernetesSecrets: []secret{onRecord("b", "h2")}}, &a, both, true},
		"one that is known":                 {both, &a, both, false},
		"a new login":                       {both, &newer, who{KubernetesSecrets: []secret{onRecord("a", "h9"), onRecord("b", "h2")}}, true},
		"a service account":                 {both, &sa, who{KubernetesSecrets: both.KubernetesSecrets, KubernetesServiceAccounts: account}, true},
		"a known service account":           {who{KubernetesServiceAccounts: account}, &sa, who{KubernetesServiceAccounts: account}, false},
		"an anonymous pull opens it to all": {both, nil, who{NodePodsAccessible: true}, true},
		"the node's login opens it to all":  {both, &keyring.Credential{Hash: "h"}, who{NodePodsAccessible: true}, true},
		"open it stays":                     {who{NodePodsAccessible: true}, &a, who{NodePodsAccessible: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			had := *tt.before.DeepCopy()
			got, changed := add(tt.before, tt.used)
			if !reflect.DeepEqual(got, tt.want) || changed != tt.changed {
				t.Errorf("%+v, %v\nwant %+v, %v", got, changed, tt.want, tt.changed)
			}
			if !reflect.DeepEqual(tt.before, had) {
				t.Errorf("what was on record has changed: %+v", tt.before)
			}
		})
	}
}
