// What is on the page beside the field itself.
(function () {
  "use strict";

  const input = document.querySelector("input[type=file]");
  const form = input.form;
  const status = document.getElementById("status");
  const keep = document.getElementById("keep"); // only where no backend gets the form

  // What goes wrong is told above this, by filestore.js.
  const note = (text) => { status.textContent = text; };

  // uploaded says how far it is, and with which command what is uploaded can be kept.
  function uploaded() {
    const files = pond.getFiles();
    const ids = files.filter((f) => f.status === FilePond.FileStatus.PROCESSING_COMPLETE).map((f) => f.serverId);
    note(files.length === 0 ? "" : `${ids.length} of ${files.length} uploaded`);
    if (keep) {
      keep.hidden = ids.length === 0;
      const command = keep.querySelector("code");
      if (command) command.textContent = "filestore store " + ids.join(" ");
    }
  }

  const pond = filestorePond.create(input, {
    lifetime: Number(input.dataset.lifetime),
    pond: {
      maxFiles: Number(input.dataset.most) || null,
      onupdatefiles: () => uploaded(),
      onprocessfile: (error) => { if (!error) uploaded(); },
      onprocessfilerevert: () => uploaded(),
    },
  });

  const copy = keep && keep.querySelector("button");
  if (copy && navigator.clipboard) {
    copy.hidden = false;
    copy.addEventListener("click", () => {
      navigator.clipboard.writeText(keep.querySelector("code").textContent).then(
        () => note("Copied."), () => note("The browser does not allow copying. Select the command instead."));
    });
  }
  if (!keep) {
    form.addEventListener("submit", (event) => {
      if (pond.getFiles().length === 0) {
        event.preventDefault();
        note("Choose a file first.");
      }
    });
  }
  form.hidden = false;
})();
