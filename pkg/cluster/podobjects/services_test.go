package podobjects

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
)

// listing is a client whose watches do not list, like those of the fake.
type listing struct{ core.CoreV1Interface }

func (listing) IsWatchListSemanticsUnSupported() bool { return true }

func TestServicesOfNamespaces(t *testing.T) {
	of := func(namespace, name string) *v1.Service {
		return &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: map[string]string{"long": "text"}},
			Spec: v1.ServiceSpec{ClusterIP: "10.0.0.1", Ports: []v1.ServicePort{{Port: 80}}, Selector: map[string]string{"a": "b"}}}
	}
	s, err := NewServices(listing{fake.NewClientset(of("a", "one"), of("b", "two"), of("c", "three")).CoreV1()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	if err := s.Wait(ctx); err != nil || !s.HasSynced() {
		t.Fatal(err)
	}
	all, err := s.Of("b", "c", "none")
	if err != nil || len(all) != 2 || all[0].Name != "two" || all[1].Name != "three" {
		t.Fatalf("%v, %v", all, err)
	}
	if one := all[0]; one.Spec.ClusterIP != "10.0.0.1" || len(one.Spec.Ports) != 1 || one.Annotations != nil || one.Spec.Selector != nil {
		t.Errorf("kept %+v", one)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWaitForServicesEndsAndHoldsUpOnlyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := NewServices(fake.NewClientset().CoreV1()) // and nobody runs it
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []time.Duration{5 * time.Second, 0} {
			start := time.Now()
			if err := s.Wait(t.Context()); err == nil || err.Error() != "services have not yet been read at least once, cannot construct envvars" {
				t.Errorf("error %v", err)
			}
			if waited := time.Since(start); waited != want {
				t.Errorf("waited %v, want %v", waited, want)
			}
		}
	})
}
