package podobjects

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
)

func TestPodsAreToldWhenTheClaimTheyWaitForChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		told, users := make(chan []types.UID, 1), []types.UID{"p"}
		c, err := NewClaims(ClaimsConfig{
			Client:  client.CoreV1(),
			Users:   func(_, claim string) []types.UID { return map[string][]types.UID{"a": users}[claim] },
			Changed: func(pods []types.UID) { told <- pods },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		api := client.CoreV1().PersistentVolumeClaims("ns")
		asked := func() int {
			n := 0
			for _, a := range client.Actions() {
				if a.GetVerb() == "get" {
					n++
				}
			}
			return n
		}
		// quiet checks that nobody is told for a minute, and returns how often the API
		// server was asked.
		quiet := func(what string) int {
			t.Helper()
			before := asked()
			select {
			case pods := <-told:
				t.Errorf("%s: %v were told", what, pods)
			case <-time.After(time.Minute):
			}
			return asked() - before
		}
		tells := func(what string) {
			t.Helper()
			select {
			case pods := <-told:
				if len(pods) != 1 || pods[0] != "p" {
					t.Errorf("%s: %v were told", what, pods)
				}
			case <-time.After(2 * awaitedLook):
				t.Errorf("%s: nobody was told", what)
			}
		}
		if n := quiet("nothing is asked for"); n != 0 {
			t.Errorf("the API server was asked %d times for nothing", n)
		}
		if _, err := c.Claim(ctx, "ns", "a"); err == nil {
			t.Fatal("a claim that is not there")
		}
		if n := quiet("the claim is missing"); n < 50 || n > 61 {
			t.Errorf("it was looked at %d times in a minute", n)
		}
		claim := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "a", ResourceVersion: "1"}}
		if claim, err = api.Create(ctx, claim, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		tells("the claim has come")
		if n := quiet("and nobody has asked since"); n != 0 {
			t.Errorf("the API server was asked %d times after all was told", n)
		}
		if _, err := c.Claim(ctx, "ns", "a"); err != nil {
			t.Fatal(err)
		}
		quiet("the claim is not bound")
		claim.Status.Phase, claim.ResourceVersion = v1.ClaimBound, "2"
		if _, err = api.UpdateStatus(ctx, claim, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		tells("the claim is bound")
		if _, err := c.Claim(ctx, "ns", "a"); err != nil {
			t.Fatal(err)
		}
		if n := quiet("a claim that is bound is not awaited"); n != 0 {
			t.Errorf("the API server was asked %d times about it", n)
		}
		if _, err := c.Claim(ctx, "ns", "of-nobody"); err == nil {
			t.Fatal("a claim that is not there")
		}
		if n := quiet("a claim of pods that have gone"); n != 0 {
			t.Errorf("the API server was asked %d times about it", n)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
