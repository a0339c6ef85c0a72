package podobjects

import (
	"context"
	"testing"
	"testing/synctest"

	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	nodeclient "k8s.io/client-go/kubernetes/typed/node/v1"
)

type listingClasses struct{ nodeclient.NodeV1Interface }

func (listingClasses) IsWatchListSemanticsUnSupported() bool { return true }

func TestHandlerOfAClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(&nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "strict"}, Handler: "gvisor"}).NodeV1()
		c, err := NewRuntimeClasses(listingClasses{client})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Handler(t.Context(), "strict"); err == nil || err.Error() != "failed to lookup RuntimeClass strict: RuntimeClasses have not yet been read at least once" {
			t.Errorf("before it has read any: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		synctest.Wait()
		if got, err := c.Handler(ctx, "strict"); err != nil || got != "gvisor" {
			t.Errorf("handler %q, %v", got, err)
		}
		if _, err := c.Handler(ctx, "later"); !apierrors.IsNotFound(err) || err.Error() != `runtimeclass.node.k8s.io "later" not found` {
			t.Errorf("a missing class: %v", err)
		}
		if _, err := client.RuntimeClasses().Create(ctx, &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "later"}, Handler: "kata"}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got, err := c.Handler(ctx, "later"); err != nil || got != "kata" {
			t.Errorf("a class that came later: %q, %v", got, err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
