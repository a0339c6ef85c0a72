package podobjects

import (
	"context"
	"encoding/pem"
	"strings"
	"testing"
	"testing/synctest"

	certsv1alpha1 "k8s.io/api/certificates/v1alpha1"
	certsv1beta1 "k8s.io/api/certificates/v1beta1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// certificates returns some in PEM, as an author may write them.
func certificates(names ...string) string {
	var b strings.Builder
	for _, n := range names {
		b.WriteString("about " + n + "\n")
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"h": n}, Bytes: []byte(n)}))
	}
	return b.String()
}

// named returns the names of the certificates from TrustAnchors.
func named(t *testing.T, text []byte) string {
	t.Helper()
	var all []string
	block, rest := pem.Decode(text)
	for ; block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" || len(block.Headers) > 0 {
			t.Errorf("block %+v", block)
		}
		all = append(all, string(block.Bytes))
	}
	if len(rest) > 0 || strings.Contains(string(text), "about") {
		t.Errorf("more than certificates: %q", text)
	}
	return strings.Join(all, " ")
}

func trustBundle(name, signer string, labels map[string]string, text string) *certsv1beta1.ClusterTrustBundle {
	return &certsv1beta1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: certsv1beta1.ClusterTrustBundleSpec{SignerName: signer, TrustBundle: text}}
}

// without makes a server refuse some versions.
func without(client *fake.Clientset, err error, versions ...string) {
	client.PrependReactor("list", "clustertrustbundles", func(a clienttesting.Action) (bool, runtime.Object, error) {
		for _, v := range versions {
			if a.GetResource().Version == v {
				return true, nil, err
			}
		}
		return false, nil, nil
	})
}

var notServed = &apierrors.StatusError{ErrStatus: metav1.Status{Reason: metav1.StatusReasonNotFound, Message: "the server could not find the requested resource"}}

// run runs b while f runs.
func run(t *testing.T, b *TrustBundles, f func(context.Context)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.Run(ctx) }()
		synctest.Wait()
		f(ctx)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestTrustAnchors(t *testing.T) {
	const signer = "example.com/ca"
	select1 := func(labels map[string]string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: labels}
	}
	live := map[string]string{"is": "live"}
	for name, tt := range map[string]struct {
		p    v1.ClusterTrustBundleProjection
		want string
		err  string
	}{
		"by name":                          {p: v1.ClusterTrustBundleProjection{Name: new("plain")}, want: "a b c"},
		"a missing name":                   {p: v1.ClusterTrustBundleProjection{Name: new("no")}, err: `while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io "no" not found`},
		"a missing name, optional":         {p: v1.ClusterTrustBundleProjection{Name: new("no"), Optional: new(true)}},
		"by signer and labels":             {p: v1.ClusterTrustBundleProjection{SignerName: new(signer), LabelSelector: select1(live)}, want: "a d e"},
		"all of a signer":                  {p: v1.ClusterTrustBundleProjection{SignerName: new(signer), LabelSelector: select1(nil)}, want: "a d e f"},
		"without a selector none":          {p: v1.ClusterTrustBundleProjection{SignerName: new(signer)}, err: "combination of signerName and labelSelector matched zero ClusterTrustBundles"},
		"without a selector none, allowed": {p: v1.ClusterTrustBundleProjection{SignerName: new(signer), Optional: new(true)}},
		"another signer":                   {p: v1.ClusterTrustBundleProjection{SignerName: new("example.com/no"), LabelSelector: select1(live)}, err: "matched zero"},
		"a wrong selector": {p: v1.ClusterTrustBundleProjection{SignerName: new(signer), LabelSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "k", Operator: "Like"}}}},
			err: "while parsing label selector"},
		"neither": {p: v1.ClusterTrustBundleProjection{}, err: "requires either name or signerName to be set"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := NewTrustBundles(fake.NewClientset(
				trustBundle("plain", "", live, certificates("c", "a", "b", "a")),
				trustBundle("example.com:ca:1", signer, live, certificates("e", "a")),
				trustBundle("example.com:ca:2", signer, live, certificates("a", "d")),
				trustBundle("example.com:ca:3", signer, nil, certificates("f")),
				trustBundle("example.org:ca:1", "example.org/ca", live, certificates("g")),
			))
			if err != nil {
				t.Fatal(err)
			}
			run(t, b, func(ctx context.Context) {
				got, err := b.TrustAnchors(ctx, &tt.p)
				if tt.err != "" {
					if err == nil || !strings.Contains(err.Error(), tt.err) {
						t.Errorf("error %v, want %q", err, tt.err)
					}
					return
				}
				if err != nil || named(t, got) != tt.want {
					t.Errorf("%q, %v; want %q", named(t, got), err, tt.want)
				}
			})
		})
	}
}

func TestTrustBundlesAreOfTheVersionThatIsServed(t *testing.T) {
	plain := &v1.ClusterTrustBundleProjection{Name: new("plain")}
	t.Run("v1beta1, and what changes later", func(t *testing.T) {
		client := fake.NewClientset(trustBundle("plain", "", nil, certificates("a")))
		b, _ := NewTrustBundles(client)
		run(t, b, func(ctx context.Context) {
			if n := len(client.Actions()); n != 0 {
				t.Errorf("%d requests before a pod asks", n)
			}
			if got, err := b.TrustAnchors(ctx, plain); err != nil || named(t, got) != "a" {
				t.Errorf("%q, %v", got, err)
			}
			synctest.Wait()
			asked := len(client.Actions())
			if _, err := client.CertificatesV1beta1().ClusterTrustBundles().Update(ctx, trustBundle("plain", "", nil, certificates("b")), metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if got, err := b.TrustAnchors(ctx, plain); err != nil || named(t, got) != "b" {
				t.Errorf("after the change: %q, %v", got, err)
			}
			if n := len(client.Actions()) - asked; n != 1 { // the update
				t.Errorf("%d requests for what is watched", n-1)
			}
		})
	})
	t.Run("v1alpha1", func(t *testing.T) {
		client := fake.NewClientset(&certsv1alpha1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: "plain"}, Spec: certsv1alpha1.ClusterTrustBundleSpec{TrustBundle: certificates("old")}})
		without(client, notServed, "v1beta1")
		b, _ := NewTrustBundles(client)
		run(t, b, func(ctx context.Context) {
			if got, err := b.TrustAnchors(ctx, plain); err != nil || named(t, got) != "old" {
				t.Errorf("%q, %v", got, err)
			}
		})
	})
	t.Run("none, also where it is optional", func(t *testing.T) {
		client := fake.NewClientset()
		without(client, notServed, "v1beta1", "v1alpha1")
		b, _ := NewTrustBundles(client)
		run(t, b, func(ctx context.Context) {
			if _, err := b.TrustAnchors(ctx, &v1.ClusterTrustBundleProjection{Name: new("plain"), Optional: new(true)}); err != errNoBundles {
				t.Errorf("error %v", err)
			}
		})
	})
	t.Run("a server that does not say is asked again", func(t *testing.T) {
		client := fake.NewClientset(trustBundle("plain", "", nil, certificates("a")))
		without(client, apierrors.NewForbidden(certsv1beta1.Resource("clustertrustbundles"), "", nil), "v1beta1")
		b, _ := NewTrustBundles(client)
		run(t, b, func(ctx context.Context) {
			if _, err := b.TrustAnchors(ctx, plain); !apierrors.IsForbidden(err) {
				t.Errorf("error %v", err)
			}
			client.ReactionChain = client.ReactionChain[1:]
			if got, err := b.TrustAnchors(ctx, plain); err != nil || named(t, got) != "a" {
				t.Errorf("then: %q, %v", got, err)
			}
		})
	})
	t.Run("nobody runs it", func(t *testing.T) {
		b, _ := NewTrustBundles(fake.NewClientset())
		if _, err := b.TrustAnchors(t.Context(), plain); err == nil || !strings.Contains(err.Error(), "not watched") {
			t.Errorf("error %v", err)
		}
	})
}
