package shared

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestAThousandWhoAskCostOneReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var done atomic.Int32
		w := Work[int32]{MaxAge: time.Second, Timeout: time.Minute, Do: func(context.Context) (int32, error) {
			time.Sleep(300 * time.Millisecond)
			return done.Add(1), nil
		}}
		ask := func(want int32) {
			t.Helper()
			var all sync.WaitGroup
			for range 1000 {
				all.Go(func() {
					if got, err := w.Get(t.Context()); got != want || err != nil {
						t.Errorf("%d, %v; want %d", got, err, want)
					}
				})
			}
			all.Wait()
		}
		ask(1)
		time.Sleep(600 * time.Millisecond)
		ask(1) // 0.9 s after it began
		time.Sleep(200 * time.Millisecond)
		ask(2)
	})
}

func TestAnErrorIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wrong := errors.New("the disk is made of cheese")
		answers := []error{wrong, nil}
		w := Work[int]{MaxAge: time.Hour, Timeout: time.Minute, Do: func(context.Context) (int, error) {
			err := answers[0]
			answers = answers[1:]
			return 1, err
		}}
		for _, want := range []error{wrong, nil, nil} {
			if _, err := w.Get(t.Context()); !errors.Is(err, want) {
				t.Errorf("error %v, want %v", err, want)
			}
		}
	})
}

func TestAClientThatLeavesEndsNoWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := Work[string]{MaxAge: time.Hour, Timeout: time.Minute, Do: func(ctx context.Context) (string, error) {
			select {
			case <-ctx.Done():
				return "", ctx.Err()
			case <-time.After(time.Second):
				return "done", nil
			}
		}}
		first, leave := context.WithCancel(t.Context())
		go func() { _, _ = w.Get(first) }()
		synctest.Wait()
		impatient, leaveToo := context.WithTimeout(t.Context(), time.Millisecond)
		defer leaveToo()
		if _, err := w.Get(impatient); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who does not wait gets %v", err)
		}
		leave()
		if got, err := w.Get(t.Context()); got != "done" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func TestAPanicLeavesNobodyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := Work[int]{MaxAge: time.Hour, Timeout: time.Minute, Do: func(context.Context) (int, error) {
			time.Sleep(time.Second)
			panic("cheese")
		}}
		go func() {
			defer func() { _ = recover() }()
			_, _ = w.Get(context.Background())
		}()
		synctest.Wait()
		if _, err := w.Get(t.Context()); err == nil {
			t.Error("no error")
		}
	})
}
