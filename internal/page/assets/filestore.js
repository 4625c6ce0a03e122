/*! filestore.js, MIT. Uploads files to a filestore with FilePond: docs/browser.md */
(function (global) {
  "use strict";

  // One PutObject takes no more (Amazon S3 User Guide, "Uploading objects").
  const LARGEST = 5 * 2 ** 30;
  // How long a connection may move no byte, in milliseconds.
  const STALL = 60000;
  // A server that takes no more requests for now is asked again after at most so many seconds, at most so many times.
  const PATIENCE = 5, TRIES = 20;

  const UNREACHABLE = "The server can't be reached. Check the connection, then try again.";

  // call asks the filestore's API, and returns what it answers. Where the server takes no more requests for now, it waits and
  // asks again, as long as canceled is not true: many small files are more than its limit. Its errors are for people to read.
  async function call(api, method, path, { body, token, keepalive, canceled = () => false } = {}) {
    const headers = {};
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (token) headers.Authorization = "Bearer " + token;
    for (let tries = 1; ; tries++) {
      let response, answer;
      try {
        response = await fetch(api + path, {
          method, headers, keepalive, credentials: "omit", cache: "no-store",
          body: body === undefined ? undefined : JSON.stringify(body),
        });
        answer = await response.json().catch(() => null);
      } catch {
        throw new Error(UNREACHABLE);
      }
      if (response.ok) return answer;
      if (response.status === 429) {
        const wait = Number(response.headers.get("Retry-After") ?? 1);
        if (wait <= PATIENCE && tries < TRIES) {
          // Not all at the same time again.
          await new Promise((resolve) => setTimeout(resolve, 1000 * wait * (1 + Math.random())));
          if (canceled()) throw new Error("canceled");
          continue;
        }
        throw new Error("Too many requests at once. Try again " + (wait > 0 ? `in ${wait} s.` : "in a moment."));
      }
      const error = new Error(response.status >= 500
        ? `The server has a problem (status ${response.status}). Try again later.`
        : `The server refused: ${(answer && answer.message) || "status " + response.status}`);
      error.status = response.status;
      throw error;
    }
  }

  // refusal says in words what an S3 server has answered (Amazon S3 API Reference, "Error responses").
  function refusal(xhr) {
    const xml = new DOMParser().parseFromString(xhr.responseText, "text/xml");
    const text = (name) => xml.querySelector("Error > " + name)?.textContent || "";
    const code = text("Code"), message = text("Message");
    // ExpiredToken, a 400: the credentials that signed it were temporary.
    if (code === "ExpiredToken" || xhr.status === 403 && /expired/i.test(message)) return "The time for this upload is over. Try again.";
    if (code === "EntityTooLarge") return "The file is too large for the storage.";
    if (xhr.status === 429 || xhr.status >= 500) return `The storage has a problem (${code || "status " + xhr.status}). Try again later.`;
    return `The storage refused the file: ${message || code || "status " + xhr.status}`;
  }

  // put sends a file to a presigned URL. XMLHttpRequest, since fetch tells no progress of what it sends.
  function put(url, file, progress, stall) {
    const xhr = new XMLHttpRequest();
    let stopped = false;
    const done = new Promise((resolve, reject) => {
      let watch;
      const moved = () => {
        clearTimeout(watch);
        watch = setTimeout(() => {
          reject(new Error("The upload has come to a halt. Check the connection, then try again."));
          xhr.abort();
        }, stall);
      };
      xhr.upload.onprogress = (e) => {
        moved();
        if (!stopped) progress(e.lengthComputable, e.loaded, e.total);
      };
      xhr.upload.onload = moved;
      xhr.onload = () => (xhr.status >= 200 && xhr.status < 300 ? resolve() : reject(new Error(refusal(xhr))));
      // A browser does not tell these apart.
      xhr.onerror = () => reject(new Error(
        "The upload broke off: the storage can't be reached, or the file was changed or moved meanwhile. Try again."));
      xhr.onabort = () => reject(new Error("The upload was canceled."));
      xhr.onloadend = () => clearTimeout(watch);
      xhr.open("PUT", url);
      // Nothing but this: every header more would have to be allowed by the bucket's CORS rules.
      xhr.setRequestHeader("Content-Type", file.type || "application/octet-stream");
      moved();
      xhr.send(file);
    });
    return { done, abort: () => { stopped = true; xhr.abort(); } };
  }

  // Memory is what a tab knows of its uploads, so that they are still there when the page is loaded again:
  // [{id, token, name, size, type, at}]. It is as good as the browser lets it: without storage it is forgotten.
  class Memory {
    constructor(key, lifetime) {
      this.key = key;
      this.files = new Map();
      let kept = [];
      try { kept = JSON.parse(sessionStorage.getItem(key)) || []; } catch { /* none, or not readable */ }
      // What was handed over belongs to whoever got it, unless the user comes back to change the form.
      const back = performance.getEntriesByType("navigation")[0]?.type === "back_forward";
      for (const f of kept) {
        const old = lifetime > 0 && Date.now() - f.at > lifetime;
        if (f.id && !old && (!f.handedOver || back)) this.files.set(f.id, { ...f, handedOver: false });
      }
      this.save();
    }
    add(file) { this.files.set(file.id, file); this.save(); }
    remove(id) { this.files.delete(id); this.save(); }
    handOver(over = true) { for (const f of this.files.values()) f.handedOver = over; this.save(); }
    save() {
      try { sessionStorage.setItem(this.key, JSON.stringify([...this.files.values()])); } catch { /* full, or forbidden */ }
    }
  }

  // server returns what FilePond wants as its option "server".
  //
  //   api       base URL of the filestore's API; "": where the page is from
  //   load      URL of your backend that, with an id after it, answers {"name", "type", "url"} of a stored file
  //   memory    a Memory; without one, what was uploaded can be taken back only until the page is left
  //   note      is called with a text for the user that no file's own message has room for
  //   stall     how long, in milliseconds, a connection may move no byte
  function server({ api = "", load: from, memory, note = () => {}, stall = STALL } = {}) {
    api = api.replace(/\/$/, "");
    memory = memory || { files: new Map(), add(f) { this.files.set(f.id, f); }, remove(id) { this.files.delete(id); } };

    const takeBack = (id, token) => call(api, "DELETE", "/file/" + encodeURIComponent(id), { token, keepalive: true });

    function process(field, file, metadata, load, error, progress, abort) {
      let canceled = false, transfer, uploaded;
      const drop = (created) => created.token && takeBack(created.id, created.token).catch(() => {}); // else it expires
      (async () => {
        if (file.size > LARGEST) throw new Error("The file is larger than 5 GiB, the most that can be uploaded here.");
        const created = await call(api, "POST", "/file", { body: { name: file.name }, canceled: () => canceled });
        if (!created || !created.id || !created.url) throw new Error("The server's answer can't be read. Try again later.");
        try {
          if (canceled) throw new Error("canceled");
          transfer = put(created.url, file, progress, stall);
          await transfer.done;
          if (canceled) throw new Error("canceled");
        } catch (e) {
          drop(created);
          throw e;
        }
        memory.add({ id: created.id, token: created.token, name: file.name, size: file.size, type: file.type, at: Date.now() });
        uploaded = created;
        load(created.id);
      })().catch((e) => canceled || error(e.message));
      return {
        abort() {
          canceled = true;
          if (transfer) transfer.abort();
          if (uploaded) { // FilePond shows the end a moment later than it comes
            memory.remove(uploaded.id);
            drop(uploaded);
          }
          abort();
        },
      };
    }

    function revert(id, load, error) {
      const file = memory.files.get(id);
      memory.remove(id);
      if (!file || !file.token) return load(); // nobody submits it any more, so it expires
      takeBack(id, file.token).then(load, (e) => {
        if (e.status === 404 || e.status === 410) return load();
        const only = `${file.name} is only left out here: `;
        if (e.status === 409) note(only + "it is stored already, and stays so.");
        else if (e.status === 403) note(only + "the server does not let this page remove it any more.");
        else {
          note(`${only}it could not be removed from the server. ${e.message}`);
          return error(e.message);
        }
        load();
      });
    }

    // load fetches a file that is stored. Only the backend, which has the key, can get its URL.
    function load(id, load, error, progress, abort) {
      const controller = new AbortController();
      let xhr;
      (async () => {
        if (!from) throw new Error("This page can't show files that are stored already.");
        let response;
        try {
          response = await fetch(from + encodeURIComponent(id), { signal: controller.signal });
        } catch {
          throw new Error(UNREACHABLE);
        }
        const info = response.ok ? await response.json().catch(() => null) : null;
        if (!info || !info.url) throw new Error("This file is not stored, or not any more.");
        const blob = await new Promise((resolve, reject) => {
          xhr = new XMLHttpRequest();
          xhr.responseType = "blob";
          xhr.onprogress = (e) => progress(e.lengthComputable, e.loaded, e.total);
          xhr.onload = () => (xhr.status === 200 ? resolve(xhr.response)
            : reject(new Error(`The storage does not give the file (status ${xhr.status}).`)));
          xhr.onerror = () => reject(new Error("The storage can't be reached. Check the connection, then try again."));
          xhr.open("GET", info.url);
          xhr.send();
        });
        load(new File([blob], info.name || id, { type: info.type || blob.type }));
      })().catch((e) => controller.signal.aborted || error(e.message));
      return {
        abort() {
          controller.abort();
          if (xhr) xhr.abort();
          abort();
        },
      };
    }

    // Of a file that is uploaded and not stored there is no URL to download it; FilePond asks for it only where it
    // was not told name and size, as create does.
    return { process, revert, load, restore: load, fetch: null, remove: null };
  }

  // create makes a FilePond of <input type="file"> and returns it. Beside the options of server:
  //
  //   lifetime  how long, in milliseconds, uploads are offered again when the page is loaded again: the temporary
  //             lifetime of the filestore
  //   files     [{id, name, size, type, stored}] that are part of the form already. One that is stored is fetched
  //             through load, if there is one.
  //   pond      more options for FilePond
  //   note      as of server; called with "" when the text does not hold any more. By default it is shown below the field,
  //             where files that fail are explained too.
  //
  // The form of the input gets the ids, as values of fields of the input's name. It is not handed over while a file is
  // not uploaded or, if it is stored, not loaded.
  function create(input, { lifetime = 3600e3, files = [], pond: more = {}, note, ...options } = {}) {
    const form = input.form;
    const key = place(input);
    const memory = new Memory(key, lifetime);
    const given = new Set(files.map((f) => f.id));
    const begin = [
      ...files.map((f) => item(f, f.stored, f.stored && options.load)),
      ...[...memory.files.values()].filter((f) => !given.has(f.id)).map((f) => item(f, false, false)),
    ];
    const messages = document.createElement("div");
    messages.className = "filestore-messages";
    messages.setAttribute("role", "status");
    input.after(messages);
    const list = messages.appendChild(document.createElement("ul"));
    list.hidden = true;
    if (!note) {
      const line = messages.appendChild(document.createElement("p"));
      line.hidden = true;
      note = (text) => {
        line.textContent = text;
        line.hidden = !text;
      };
    }
    const notes = new Notes(note);
    const pond = global.FilePond.create(input, {
      credits: false,
      maxParallelUploads: 3,
      allowMinimumUploadDuration: false, // progress is what it is
      fileSizeBase: 1024,
      labelFileSizeKilobytes: "KiB", labelFileSizeMegabytes: "MiB", labelFileSizeGigabytes: "GiB",
      labelIdle: 'Drop files here or <span class="filepond--label-action">choose files</span>',
      labelFileLoadError: "Not loaded", // beside a file there is no room for more
      labelFileProcessingError: "Not uploaded",
      labelFileProcessingAborted: "Upload canceled",
      labelTapToUndo: "tap to remove", // as the button says
      ...more,
      server: server({ ...options, memory, note: (text) => notes.say(text) }),
      files: begin,
    });
    fields.set(key, pond.element);
    // FilePond knows a file that is not loaded by its id alone.
    const names = new Map(files.map((f) => [f.id, f.name]));
    const nameOf = (file) => names.get(file.serverId) || file.filename;
    explain(pond, list, nameOf);
    limit(pond, notes);
    if (form) guard(form, pond, memory, nameOf, notes);
    return pond;
  }

  const fields = new Map(); // elements, by what place says of them

  // place is which field this is: that of another address (/ticket?id=2), or another one of the same name, has other files.
  function place(input) {
    for (let n = 0; ; n++) {
      const key = `filestore:${location.pathname}${location.search}:${input.name}:${n}`;
      if (!fields.get(key)?.isConnected) return key;
    }
  }

  // Notes has one text for the user at a time, the last.
  class Notes {
    constructor(show) {
      this.show = show;
      this.text = "";
    }
    say(text) {
      this.text = text;
      this.show(text);
    }
    // replace puts a text in the place of one that does not hold any more, unless another has been said since.
    replace(old, text) { if (old && old !== text && this.text === old) this.say(text); }
  }

  // explain says in a list why files are not uploaded or loaded, as long as they are not.
  function explain(pond, list, nameOf) {
    const why = new Map(); // by FilePond's own id of the file
    const show = () => {
      list.replaceChildren(...[...why.values()].map(({ name, text }) => {
        const line = document.createElement("li");
        line.textContent = name + ": " + text;
        return line;
      }));
      list.hidden = why.size === 0;
    };
    const forget = (file) => file && why.delete(file.id) && show();
    pond.on("error", (error, file) => {
      if (!file || !error.body) return;
      why.set(file.id, { name: nameOf(file), text: error.body });
      show();
    });
    pond.on("processfilestart", forget);
    pond.on("addfilestart", forget);
    pond.on("addfile", (error, file) => error || forget(file));
    pond.on("processfile", (error, file) => error || forget(file));
    pond.on("removefile", (error, file) => forget(file));
  }

  const item = ({ id, name, size, type }, stored, fetched) => ({
    source: id,
    options: { type: stored ? "local" : "limbo", ...(fetched ? {} : { file: { name, size, type } }) },
  });

  // missing says why a form can't be handed over, and "" if it can: an id would be missing in it. What counts is not the
  // state of a file but the field that FilePond makes for it: that of a stored file is empty until the file is loaded.
  function missing(pond, nameOf) {
    const { FileStatus: status, FileOrigin: origin } = global.FilePond;
    const ids = new Set([...pond.element.querySelectorAll("input[type=hidden]")].map((field) => field.value));
    // What is being removed has lost its field already.
    const leaves = (f) => f.status === status.PROCESSING_REVERT_ERROR ||
      f.status === status.IDLE && f.serverId && f.origin !== origin.LOCAL;
    const files = pond.getFiles().filter((f) => !ids.has(f.serverId) && !leaves(f));
    for (const [which, what, advice] of [
      [(f) => f.status === status.PROCESSING_ERROR || f.status === status.LOAD_ERROR && !f.serverId, "Not uploaded", "Try again, or remove it."],
      [(f) => f.status === status.LOAD_ERROR, "Not loaded", "Try again. If you remove it, it is no longer part of this form."],
      [(f) => f.serverId, "Not loaded yet", "Wait until it is."],
      [() => true, "Not uploaded yet", "Wait until it is, or remove it."],
    ]) {
      const names = files.filter(which).map(nameOf);
      if (names.length) return `${what}: ${names.join(", ")}. ${advice}`;
    }
    return "";
  }

  // limit says that files are not added where they would be too many, which FilePond only reports.
  function limit(pond, notes) {
    let why = "";
    pond.on("warning", () => { // the only warning there is
      const most = pond.allowMultiple ? pond.maxFiles : 1;
      why = `Not added: at most ${most} ${most === 1 ? "file" : "files"} can be chosen.`;
      notes.say(why);
    });
    pond.on("removefile", () => notes.replace(why, ""));
  }

  // guard keeps a form back while an id would be missing, and says so as long as it is true.
  function guard(form, pond, memory, nameOf, notes) {
    let why = "";
    form.addEventListener("submit", (event) => {
      why = missing(pond, nameOf);
      if (!why) return;
      notes.say(why);
      event.preventDefault();
    });
    for (const event of ["processfilestart", "processfile", "addfilestart", "addfile", "removefile"]) {
      pond.on(event, () => {
        if (!why) return;
        const now = missing(pond, nameOf);
        notes.replace(why, now);
        why = now;
      });
    }
    // Last of all, when nobody has prevented it.
    window.addEventListener("submit", (event) => {
      if (event.target === form && !event.defaultPrevented) memory.handOver();
    });
    // The user comes back to the page as it was left, without its being loaded.
    window.addEventListener("pageshow", (event) => { if (event.persisted) memory.handOver(false); });
  }

  global.filestorePond = { create, server };

  // <input type="file" name="file" data-filestore="https://files.example.com"> is all that a page needs. There may be
  // data-filestore-load, -lifetime (in seconds) and -files (as JSON) too, and FilePond's own, such as data-max-files.
  document.addEventListener("DOMContentLoaded", () => {
    for (const input of document.querySelectorAll("input[type=file][data-filestore]")) {
      const { filestore: api, filestoreLoad: load, filestoreLifetime: seconds, filestoreFiles: files } = input.dataset;
      create(input, {
        api, load,
        ...(seconds ? { lifetime: 1000 * Number(seconds) } : {}),
        ...(files ? { files: JSON.parse(files) } : {}),
      });
    }
  });
})(window);
