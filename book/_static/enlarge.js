// A click on a figure, or Enter on it, shows it as large as the window allows.
document.addEventListener("DOMContentLoaded", () => {
  const dialog = document.createElement("dialog");
  dialog.className = "enlarged";
  dialog.setAttribute("aria-label", "Enlarged figure");
  const close = document.createElement("button");
  close.textContent = "Close";
  const picture = document.createElement("img");
  const caption = document.createElement("p");
  dialog.append(close, picture, caption);
  document.body.append(dialog);
  close.addEventListener("click", () => dialog.close());
  picture.addEventListener("click", () => dialog.close());

  const enlarge = (image) => {
    picture.src = image.src;
    picture.alt = image.alt;
    // On a wide screen the picture fills the window; on a phone it keeps its own size, so
    // that its labels can be read, and is moved about.
    const width = Math.max(image.naturalWidth, window.innerWidth - 48);
    picture.style.width = `${Math.min(width, 2 * image.naturalWidth)}px`;
    picture.style.maxWidth = "none";
    caption.textContent = image.closest("figure")?.querySelector("figcaption")?.innerText ?? "";
    dialog.showModal();
    dialog.scrollTo(0, 0);
  };

  for (const image of document.querySelectorAll(".cell_output img, .bd-article figure img")) {
    image.classList.add("enlargeable");
    image.tabIndex = 0;
    image.title = "Enlarge";
    image.addEventListener("click", () => enlarge(image));
    image.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault(); // else the key presses the button that the dialog focuses
      enlarge(image);
    });
  }
});
