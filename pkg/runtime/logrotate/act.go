package logrotate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
)

// errUnsure: the runtime has made a new log file and may write to the old one.
var errUnsure = errors.New("the runtime has not said that it has left the old file")

// act does the quick steps of a plan. After a failure it may be called with a new plan.
func act(ctx context.Context, dir files, log string, steps []step, reopenLog func(context.Context) error) error {
	var errs []error
	for _, s := range steps {
		switch s.do {
		case rotate:
			err := dir.rename(s.name, s.to)
			if errors.Is(err, fs.ErrNotExist) {
				return nil // removed just now: a new plan has it reopened
			}
			if err != nil {
				return fmt.Errorf("rotate log: %w", err)
			}
		case restore:
			if err := putBack(dir, s.name, log); err != nil {
				return fmt.Errorf("restore log: %w", err)
			}
		case reopen:
			err := reopenLog(ctx)
			if err == nil {
				continue
			}
			err = fmt.Errorf("reopen log: %w", err)
			if s.name == "" {
				return errors.Join(err, errUnsure)
			}
			// Whoever reads the log finds it again, and the runtime, if it reopens it after all,
			// appends to it. Where it has made a new one already, that stays.
			switch back := putBack(dir, s.name, log); {
			case errors.Is(back, fs.ErrExist):
				err = errors.Join(err, errUnsure)
			case back != nil:
				err = errors.Join(err, back)
			}
			return err
		case remove:
			if err := dir.remove(s.name); err != nil {
				errs = append(errs, fmt.Errorf("remove old log: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}

// putBack undoes a rotation. There may be nothing to be put back any more: the container's logs
// are removed with it.
func putBack(dir files, name, log string) error {
	err := dir.rename(name, log)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// tidy does the slow steps of a plan, until ctx ends. A file that cannot be compressed stays
// and hinders no other.
func tidy(ctx context.Context, dir files, steps []step) error {
	var errs []error
	for _, s := range steps {
		if ctx.Err() != nil {
			break
		}
		var err error
		switch s.do {
		case remove:
			err = dir.remove(s.name)
		case squeeze:
			err = replace(ctx, dir, s.name, s.to)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // removed meanwhile
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// replace puts the compressed file in the place of the other.
func replace(ctx context.Context, dir files, name, packed string) error {
	temp := name + temporary
	if err := dir.pack(ctx, name, temp); err != nil {
		return err
	}
	if err := dir.commit(temp, packed); err != nil {
		return errors.Join(err, dir.remove(temp))
	}
	return dir.remove(name)
}
