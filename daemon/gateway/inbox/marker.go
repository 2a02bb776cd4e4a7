package inbox

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// The marker is a small text in the folder. Its second line is what counts: it
// names the folder for as long as the disk lives. A folder that another box
// marked keeps its marker, so that both know it.
const markerText = "A yunbox takes files in from this folder. It knows the folder by this file: leave it here.\nid %s\n"

const maxMarker = 4 << 10

func readMarker(root *os.Root) (string, error) {
	f, err := root.OpenFile(MarkerName, os.O_RDONLY|notFollowed, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxMarker))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), "id "); ok && id != "" {
			return id, nil
		}
	}
	return "", fs.ErrNotExist
}

// mark makes c's folder one that is known again. Where nothing can be written,
// such as on a card with its lock on, the file system itself must do.
func mark(c *Config) error {
	root, err := os.OpenRoot(c.Path)
	if err != nil {
		return err
	}
	defer root.Close()
	id, err := readMarker(root)
	if err == nil {
		c.marker = id
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	id = rand.Text()
	switch err := writeMarker(root, id); {
	case err == nil:
		c.marker, c.made = id, true
	case c.volume.name == "":
		return err
	}
	return nil
}

func writeMarker(root *os.Root, id string) error {
	f, err := root.OpenFile(MarkerName, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, markerText, id)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, root.Remove(MarkerName))
	}
	return nil
}

// unmark removes the marker that mark made.
func unmark(c Config) error {
	if !c.made {
		return nil
	}
	root, err := os.OpenRoot(c.Path)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Remove(MarkerName); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// errAbsent is the volume of a folder that is not there. What was seen of it
// before stays as it is.
var errAbsent = errors.New("inbox: the volume is absent")

// open opens the folder if it is the one that was added, else errAbsent. The
// caller closes it soon: an open folder keeps a stick from being unmounted.
func (c Config) open() (*os.Root, volume, error) {
	root, err := os.OpenRoot(c.Path)
	if err != nil {
		return nil, volume{}, fmt.Errorf("%w: %w", errAbsent, err)
	}
	v, err := c.identify(root)
	if err != nil {
		root.Close()
		return nil, volume{}, err
	}
	return root, v, nil
}

func (c Config) identify(root *os.Root) (volume, error) {
	dir, err := root.Open(".")
	if err != nil {
		return volume{}, fmt.Errorf("%w: %w", errAbsent, err)
	}
	defer dir.Close()
	v, err := volumeOf(dir)
	if err != nil {
		return volume{}, fmt.Errorf("%w: %w", errAbsent, err)
	}
	if c.marker == "" { // added as it was, or for one time
		if v.name != c.volume.name || !v.loose && v.inode != c.volume.inode {
			return volume{}, errAbsent
		}
		return v, nil
	}
	id, err := readMarker(root)
	switch {
	case err == nil && id == c.marker:
		return v, nil
	case errors.Is(err, fs.ErrNotExist) && !v.loose && v.device == c.volume.device && v.inode == c.volume.inode && v.name == c.volume.name:
		// The very folder; somebody removed the marker.
		if err := writeMarker(root, c.marker); err != nil {
			return volume{}, fmt.Errorf("%w: %w", errAbsent, err)
		}
		return v, nil
	}
	return volume{}, errAbsent
}
