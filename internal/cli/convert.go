package cli

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"timeball/internal/convert"
)

func newConvert() *cobra.Command {
	var format, keys, root string
	cmd := &cobra.Command{
		Use:   "convert FILE",
		Short: "Turn another daemon's configuration into timeball's",
		Long: "Turn chrony.conf, ntp.conf (ntpsec, ntp.org), timesyncd.conf, OpenNTPD's ntpd.conf or\n" +
			"ntpd-rs's ntp.toml into a configuration of timeball, on standard output. Which it is is\n" +
			"told from the file. A line without an equal stays as a comment in its place, with the\n" +
			"reason; a summary goes to standard error. Exit status 1 if a line had to be refused:\n" +
			"it is wrong, or its daemon takes it in a way that nobody means.",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "" && !slices.Contains(convert.Formats, convert.Format(format)) {
				return usageError{fmt.Errorf("there is no format %q; use %s", format, formatNames())}
			}
			r, err := convert.Convert(args[0], convert.Options{Format: convert.Format(format), KeyFile: keys, Files: convert.Disk{Root: root}})
			if err != nil {
				return err
			}
			if err := writeKeys(keys, r); err != nil {
				return err
			}
			if _, err := cmd.OutOrStdout().Write(r.YAML); err != nil {
				return err
			}
			return summarize(cmd.ErrOrStderr(), args[0], keys, r)
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "what FILE is: "+formatNames())
	cmd.Flags().StringVar(&keys, "keys", "", "write the keys to this new `FILE`, which only its owner can read")
	cmd.Flags().StringVar(&root, "root", "", "look for FILE and the files that it names below this `FOLDER`")
	return cmd
}

func formatNames() string {
	var names []string
	for _, f := range convert.Formats {
		names = append(names, string(f))
	}
	return strings.Join(names, ", ")
}

// writeKeys writes the file of keys, never over another.
func writeKeys(path string, r *convert.Result) error {
	if path == "" || r.Keys == nil {
		return nil
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the keys: %w; name a new file", err)
	}
	_, err = file.Write(r.Keys)
	if closed := file.Close(); err == nil {
		err = closed
	}
	return err
}

// summarize says what became of the lines.
func summarize(w io.Writer, path, keys string, r *convert.Result) error {
	fmt.Fprintf(w, "%s is a configuration of %s: %d settings converted, %d not needed, %d with a difference, %d without an equal, %d refused\n",
		path, r.Format, r.Converted, r.Count(convert.NoteNothing), r.Count(convert.NoteChanged), r.Count(convert.NoteNoEqual), r.Count(convert.NoteRefused))
	if r.Keys != nil {
		fmt.Fprintf(w, "%s: %d keys; give it to the user that timeball runs as: chown timeball: %s\n", keys, r.KeyCount, keys)
	}
	for _, kind := range []convert.NoteKind{convert.NoteRefused, convert.NoteNoEqual, convert.NoteChanged} {
		for _, n := range r.Notes {
			if n.Kind == kind {
				fmt.Fprintf(w, "%s%s\n", map[convert.NoteKind]string{convert.NoteRefused: "refused: "}[kind], n)
			}
		}
	}
	if r.Count(convert.NoteRefused) > 0 {
		return errQuiet
	}
	return nil
}
